// y[b, t, h, w, c] = residual + bias[c] + sum weight[i, j, k, c] x[b, t + i - pad0, h + j - pad1, w + k - pad2, c], zero outside.
fn each(i: u32) {
    let to = voxel_of(i, vec4<u32>(p.y1, p.y2, p.y3, p.y4));
    var sum = 0.0;
    for (var a = 0u; a < p.kernel0; a += 1u) {
        let s = to.t + a - p.pad0;
        if s >= p.x1 { continue; }
        for (var j = 0u; j < p.kernel1; j += 1u) {
            let r = to.h + j - p.pad1;
            if r >= p.x2 { continue; }
            for (var k = 0u; k < p.kernel2; k += 1u) {
                let q = to.w + k - p.pad2;
                // Positions before the start wrap around to beyond the end.
                if q >= p.x3 { continue; }
                let at = x_index(to.b, s, r, q, to.c);
                sum += weight_load(weight_at(((a * p.kernel1 + j) * p.kernel2 + k) * p.y4 + to.c)) * x_load(at);
            }
        }
    }
    if bias_present { sum += bias_load(bias_at(to.c)); }
    if residual_present { sum += residual_load(residual_at(i)); }
    y_store(i, sum);
}
