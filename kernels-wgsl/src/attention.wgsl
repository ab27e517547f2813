// softmax(scale q k^T) v along L of [B, O, L, heads, D]: a workgroup for each query, without its row of scores in memory (Milakov and
// Gimelshein, "Online normalizer calculation for softmax"). Of a chunk of LANES keys each invocation scores one; then each adds its own
// channels, every LANES-th, of all values of the chunk. With no keys the result is 0.

var<workgroup> query: array<f32, WIDTH>;
var<workgroup> chunk: array<f32, LANES>;

fn score_of(key: u32) -> f32 {
    var dot = 0.0;
    for (var c = 0u; c < p.width; c += 1u) { dot += query[c] * k_load(key + c * p.k_s4); }
    return p.scale * dot;
}

fn group(index: u32, lane: u32) {
    let i = index % p.queries;
    let h = index / p.queries % p.heads;
    let o = index / p.queries / p.heads % p.others;
    let b = index / p.queries / p.heads / p.others;
    let q_start = p.q_offset + b * p.q_s0 + o * p.q_s1 + i * p.q_s2 + h * p.q_s3;
    let k_start = p.k_offset + b * p.k_s0 + o * p.k_s1 + h * p.k_s3;
    let v_start = p.v_offset + b * p.v_s0 + o * p.v_s1 + h * p.v_s3;
    for (var c = lane; c < p.width; c += LANES) { query[c] = q_load(q_start + c * p.q_s4); }
    workgroupBarrier();
    var sums: array<f32, OWN>;
    var largest = -infinity();
    var total = 0.0;
    for (var first = 0u; first < p.keys; first += LANES) {
        let inside = first + lane < p.keys;
        var score = -infinity();
        if inside { score = score_of(k_start + (first + lane) * p.k_s2); }
        let next = max_nan(largest, group_max(score, lane));
        // Where every score so far is -infinity nothing is added, and the difference would be NaN.
        let nothing = !inside || next == -infinity();
        let weight = select(exp_full(score - next), 0.0, nothing);
        let kept = select(exp_full(largest - next), 1.0, largest == next);
        total = total * kept + group_sum(weight, lane);
        chunk[lane] = weight;
        workgroupBarrier();
        let count = min(LANES, p.keys - first);
        for (var own = 0u; own < OWN; own += 1u) {
            let c = own * LANES + lane;
            var sum = sums[own] * kept;
            if c < p.value_width {
                var at = v_start + first * p.v_s2 + c * p.v_s4;
                for (var j = 0u; j < count; j += 1u) {
                    sum += chunk[j] * v_load(at);
                    at += p.v_s2;
                }
            }
            sums[own] = sum;
        }
        workgroupBarrier();
        largest = next;
    }
    let row = b * p.out0 + o * p.out1 + i * p.out2 + h * p.out3;
    for (var own = 0u; own < OWN; own += 1u) {
        let c = own * LANES + lane;
        if c < p.value_width { y_store(row * p.value_width + c, select(sums[own] / total, 0.0, p.keys == 0u)); }
    }
    if lane == 0u { lse_store(row, largest + ln_full(total)); }
}
