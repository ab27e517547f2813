// y[b, i, j, k, c] = sum a b c x[b, l, m, n, c] over the taps of each axis: tables of (input, weight), `taps0..2` for each output.
fn each(i: u32) {
    let c = i % p.y4;
    let w = i / p.y4 % p.y3;
    let h = i / p.y4 / p.y3 % p.y2;
    let t = i / p.y4 / p.y3 / p.y2 % p.y1;
    let b = i / p.y4 / p.y3 / p.y2 / p.y1;
    let start = p.x_offset + b * p.x_s0 + c * p.x_s4;
    var sum = 0.0;
    for (var l = t * p.taps0; l < (t + 1u) * p.taps0; l += 1u) {
        let weight0 = weights_load(weights_at(l));
        if weight0 == 0.0 { continue; }
        let plane = start + u32(places_int(places_at(l))) * p.x_s1;
        for (var m = p.first1 + h * p.taps1; m < p.first1 + (h + 1u) * p.taps1; m += 1u) {
            let weight1 = weights_load(weights_at(m));
            if weight1 == 0.0 { continue; }
            let line = plane + u32(places_int(places_at(m))) * p.x_s2;
            var row = 0.0;
            for (var n = p.first2 + w * p.taps2; n < p.first2 + (w + 1u) * p.taps2; n += 1u) {
                let weight2 = weights_load(weights_at(n));
                if weight2 != 0.0 { row += weight2 * x_load(line + u32(places_int(places_at(n))) * p.x_s3); }
            }
            sum += weight0 * weight1 * row;
        }
    }
    y_store(i, sum);
}
