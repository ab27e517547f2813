// dq = scale sum dS k with dS = P (gradient v^T - D), P = e^(score - lse), D = sum gradient y (Dao et al., FlashAttention): a workgroup
// for each query, which also leaves D for the keys' kernel. Chunks of keys as in attention.wgsl.

var<workgroup> query: array<f32, WIDTH>;
var<workgroup> upstream: array<f32, VALUE_WIDTH>;
var<workgroup> chunk: array<f32, LANES>;

fn group(index: u32, lane: u32) {
    let at = place_of(index, p.queries);
    let q_start = q_index(at.b, at.o, at.i, at.h, 0u);
    let k_start = k_index(at.b, at.o, 0u, at.h, 0u);
    let v_start = v_index(at.b, at.o, 0u, at.h, 0u);
    let g_start = gradient_index(at.b, at.o, at.i, at.h, 0u);
    let y_start = y_index(at.b, at.o, at.i, at.h, 0u);
    for (var c = lane; c < p.width; c += LANES) { query[c] = q_load(q_start + c * p.q_s4); }
    var part = 0.0;
    for (var c = lane; c < p.value_width; c += LANES) {
        let g = gradient_load(g_start + c * p.gradient_s4);
        upstream[c] = g;
        part += g * y_load(y_start + c * p.y_s4);
    }
    let d = group_sum(part, lane);
    let row = out_row(at, at.i);
    let log_sum = lse_load(lse_index(at.b, at.o, at.i, at.h));
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
