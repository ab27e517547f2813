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
    let at = place_of(index, p.queries);
    let q_start = q_index(at.b, at.o, at.i, at.h, 0u);
    let k_start = k_index(at.b, at.o, 0u, at.h, 0u);
    let v_start = v_index(at.b, at.o, 0u, at.h, 0u);
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
                var value = v_start + first * p.v_s2 + c * p.v_s4;
                for (var j = 0u; j < count; j += 1u) {
                    sum += chunk[j] * v_load(value);
                    value += p.v_s2;
                }
            }
            sums[own] = sum;
        }
        workgroupBarrier();
        largest = next;
    }
    let row = out_row(at, at.i);
    for (var own = 0u; own < OWN; own += 1u) {
        let c = own * LANES + lane;
        if c < p.value_width { y_store(row * p.value_width + c, select(sums[own] / total, 0.0, p.keys == 0u)); }
    }
    if lane == 0u { lse_store(row, largest + ln_full(total)); }
}
