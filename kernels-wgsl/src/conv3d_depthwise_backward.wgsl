// dx[b, t, h, w, c] = sum weight[i, j, k, c] gradient[b, t - i + pad0, h - j + pad1, w - k + pad2, c], zero outside.
fn each(i: u32) {
    let to = voxel_of(i, vec4<u32>(p.x1, p.x2, p.x3, p.x4));
    var sum = 0.0;
    for (var a = 0u; a < p.kernel0; a += 1u) {
        let s = to.t + p.pad0 - a;
        if s >= p.y1 { continue; }
        for (var j = 0u; j < p.kernel1; j += 1u) {
            let r = to.h + p.pad1 - j;
            if r >= p.y2 { continue; }
            for (var k = 0u; k < p.kernel2; k += 1u) {
                let q = to.w + p.pad2 - k;
                // Positions before the start wrap around to beyond the end.
                if q >= p.y3 { continue; }
                let at = gradient_index(to.b, s, r, q, to.c);
                sum += weight_load(weight_at(((a * p.kernel1 + j) * p.kernel2 + k) * p.x4 + to.c)) * gradient_load(at);
            }
        }
    }
    dx_store(i, sum);
}
