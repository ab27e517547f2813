// dk = scale sum dS q and dv = sum P gradient over the queries: a workgroup for each key. Chunks of queries as in attention.wgsl.

var<workgroup> key: array<f32, WIDTH>;
var<workgroup> value: array<f32, VALUE_WIDTH>;
var<workgroup> chunk: array<vec2<f32>, LANES>;

fn group(index: u32, lane: u32) {
    let i = index % p.keys;
    let h = index / p.keys % p.heads;
    let o = index / p.keys / p.heads % p.others;
    let b = index / p.keys / p.heads / p.others;
    let k_start = p.k_offset + b * p.k_s0 + o * p.k_s1 + i * p.k_s2 + h * p.k_s3;
    let v_start = p.v_offset + b * p.v_s0 + o * p.v_s1 + i * p.v_s2 + h * p.v_s3;
    let q_start = p.q_offset + b * p.q_s0 + o * p.q_s1 + h * p.q_s3;
    let g_start = p.gradient_offset + b * p.gradient_s0 + o * p.gradient_s1 + h * p.gradient_s3;
    let lse_start = p.lse_offset + b * p.lse_s0 + o * p.lse_s1 + h * p.lse_s3;
    for (var c = lane; c < p.width; c += LANES) { key[c] = k_load(k_start + c * p.k_s4); }
    for (var c = lane; c < p.value_width; c += LANES) { value[c] = v_load(v_start + c * p.v_s4); }
    workgroupBarrier();
    var dk: array<f32, OWN>;
    var dv: array<f32, OWN_VALUE>;
    for (var first = 0u; first < p.queries; first += LANES) {
        let j = first + lane;
        var weights = vec2<f32>();
        if j < p.queries {
            var score = 0.0;
            for (var c = 0u; c < p.width; c += 1u) { score += key[c] * q_load(q_start + j * p.q_s2 + c * p.q_s4); }
            var dot = 0.0;
            for (var c = 0u; c < p.value_width; c += 1u) { dot += value[c] * gradient_load(g_start + j * p.gradient_s2 + c * p.gradient_s4); }
            let d = delta_load(delta_at(b * p.row0 + o * p.row1 + j * p.row2 + h * p.row3));
            let probability = exp_full(p.scale * score - lse_load(lse_start + j * p.lse_s2));
            weights = vec2<f32>(p.scale * probability * (dot - d), probability);
        }
        chunk[lane] = weights;
        workgroupBarrier();
        let count = min(LANES, p.queries - first);
        for (var own = 0u; own < OWN; own += 1u) {
            let c = own * LANES + lane;
            if c < p.width {
                for (var j = 0u; j < count; j += 1u) { dk[own] += chunk[j].x * q_load(q_start + (first + j) * p.q_s2 + c * p.q_s4); }
            }
        }
        for (var own = 0u; own < OWN_VALUE; own += 1u) {
            let c = own * LANES + lane;
            if c < p.value_width {
                for (var j = 0u; j < count; j += 1u) {
                    dv[own] += chunk[j].y * gradient_load(g_start + (first + j) * p.gradient_s2 + c * p.gradient_s4);
                }
            }
        }
        workgroupBarrier();
    }
    let row = b * p.out0 + o * p.out1 + i * p.out2 + h * p.out3;
    for (var own = 0u; own < OWN; own += 1u) {
        let c = own * LANES + lane;
        if c < p.width { dk_store(row * p.width + c, dk[own]); }
    }
    for (var own = 0u; own < OWN_VALUE; own += 1u) {
        let c = own * LANES + lane;
        if c < p.value_width { dv_store(row * p.value_width + c, dv[own]); }
    }
}
