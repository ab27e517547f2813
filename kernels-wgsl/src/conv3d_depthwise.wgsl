// y[b, t, h, w, c] = residual + bias[c] + sum weight[i, j, k, c] x[b, t + i - pad0, h + j - pad1, w + k - pad2, c], zero outside.
fn each(i: u32) {
    let c = i % p.y4;
    let w = i / p.y4 % p.y3;
    let h = i / p.y4 / p.y3 % p.y2;
    let t = i / p.y4 / p.y3 / p.y2 % p.y1;
    let b = i / p.y4 / p.y3 / p.y2 / p.y1;
    var sum = 0.0;
    for (var a = 0u; a < p.kernel0; a += 1u) {
        let s = t + a - p.pad0;
        if s >= p.x1 { continue; }
        for (var j = 0u; j < p.kernel1; j += 1u) {
            let r = h + j - p.pad1;
            if r >= p.x2 { continue; }
            for (var k = 0u; k < p.kernel2; k += 1u) {
                let q = w + k - p.pad2;
                // Positions before the start wrap around to beyond the end.
                if q >= p.x3 { continue; }
                let at = p.x_offset + b * p.x_s0 + s * p.x_s1 + r * p.x_s2 + q * p.x_s3 + c * p.x_s4;
                sum += weight_load(weight_at(((a * p.kernel1 + j) * p.kernel2 + k) * p.y4 + c)) * x_load(at);
            }
        }
    }
    if bias_present { sum += bias_load(bias_at(c)); }
    if residual_present { sum += residual_load(residual_at(i)); }
    y_store(i, sum);
}
