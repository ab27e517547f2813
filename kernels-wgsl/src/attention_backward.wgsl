// dq = scale sum dS k with dS = P (gradient v^T - D), P = e^(score - lse), D = sum gradient out (Dao et al., FlashAttention): a workgroup
// for each query, which also leaves D for the keys' kernel. Chunks of keys as in attention.wgsl.

var<workgroup> query: array<f32, WIDTH>;
var<workgroup> upstream: array<f32, VALUE_WIDTH>;
var<workgroup> chunk: array<f32, LANES>;

fn group(index: u32, lane: u32) {
    let i = index % p.queries;
    let h = index / p.queries % p.heads;
    let o = index / p.queries / p.heads % p.others;
    let b = index / p.queries / p.heads / p.others;
    let q_start = p.q_offset + b * p.q_s0 + o * p.q_s1 + i * p.q_s2 + h * p.q_s3;
    let k_start = p.k_offset + b * p.k_s0 + o * p.k_s1 + h * p.k_s3;
    let v_start = p.v_offset + b * p.v_s0 + o * p.v_s1 + h * p.v_s3;
    let g_start = p.gradient_offset + b * p.gradient_s0 + o * p.gradient_s1 + i * p.gradient_s2 + h * p.gradient_s3;
    let out_start = p.out_offset + b * p.out_s0 + o * p.out_s1 + i * p.out_s2 + h * p.out_s3;
    for (var c = lane; c < p.width; c += LANES) { query[c] = q_load(q_start + c * p.q_s4); }
    var part = 0.0;
    for (var c = lane; c < p.value_width; c += LANES) {
        let g = gradient_load(g_start + c * p.gradient_s4);
        upstream[c] = g;
        part += g * out_load(out_start + c * p.out_s4);
    }
    let d = group_sum(part, lane);
    let row = b * p.row0 + o * p.row1 + i * p.row2 + h * p.row3;
    let log_sum = lse_load(p.lse_offset + b * p.lse_s0 + o * p.lse_s1 + i * p.lse_s2 + h * p.lse_s3);
    if lane == 0u { delta_store(row, d); }
    workgroupBarrier();
    var sums: array<f32, OWN>;
    for (var first = 0u; first < p.keys; first += LANES) {
        var ds = 0.0;
        if first + lane < p.keys {
            let key = k_start + (first + lane) * p.k_s2;
            let value = v_start + (first + lane) * p.v_s2;
            var score = 0.0;
            for (var c = 0u; c < p.width; c += 1u) { score += query[c] * k_load(key + c * p.k_s4); }
            var dot = 0.0;
            for (var c = 0u; c < p.value_width; c += 1u) { dot += upstream[c] * v_load(value + c * p.v_s4); }
            ds = p.scale * exp_full(p.scale * score - log_sum) * (dot - d);
        }
        chunk[lane] = ds;
        workgroupBarrier();
        let count = min(LANES, p.keys - first);
        for (var own = 0u; own < OWN; own += 1u) {
            let c = own * LANES + lane;
            if c < p.width {
                for (var j = 0u; j < count; j += 1u) { sums[own] += chunk[j] * k_load(k_start + (first + j) * p.k_s2 + c * p.k_s4); }
            }
        }
        workgroupBarrier();
    }
    for (var own = 0u; own < OWN; own += 1u) {
        let c = own * LANES + lane;
        if c < p.width { dq_store(row * p.width + c, sums[own]); }
    }
}
