// dk = scale sum dS q and dv = sum P gradient over the queries: a workgroup for each key. Chunks of queries as in attention.wgsl.

var<workgroup> key: array<f32, WIDTH>;
var<workgroup> value: array<f32, VALUE_WIDTH>;
var<workgroup> chunk: array<vec2<f32>, LANES>;

fn group(index: u32, lane: u32) {
    let at = place_of(index, p.keys);
    let k_start = k_index(at.b, at.o, at.i, at.h, 0u);
    let v_start = v_index(at.b, at.o, at.i, at.h, 0u);
    let q_start = q_index(at.b, at.o, 0u, at.h, 0u);
    let g_start = gradient_index(at.b, at.o, 0u, at.h, 0u);
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
            let d = delta_load(delta_at(at.b * p.row0 + at.o * p.row1 + j * p.row2 + at.h * p.row3));
            let probability = exp_full(p.scale * score - lse_load(lse_index(at.b, at.o, j, at.h)));
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
    let row = out_row(at, at.i);
    for (var own = 0u; own < OWN; own += 1u) {
        let c = own * LANES + lane;
        if c < p.width { dk_store(row * p.width + c, dk[own]); }
    }
    for (var own = 0u; own < OWN_VALUE; own += 1u) {
        let c = own * LANES + lane;
        if c < p.value_width { dv_store(row * p.value_width + c, dv[own]); }
    }
}
