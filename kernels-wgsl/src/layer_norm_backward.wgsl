// dx = (g - mean(g) - x^ mean(g x^)) / sigma with g = gradient * weight: a workgroup for each row, which also leaves the row's mean and
// 1 / sigma for the sums over rows.
fn group(row: u32, lane: u32) {
    let start = x_row(row);
    let origin = gradient_row(row);
    let n = f32(p.columns);
    var sum = 0.0;
    for (var c = lane; c < p.columns; c += LANES) { sum += x_load(start + c * x_step()); }
    let mean = group_sum(sum, lane) / n;
    var square = 0.0;
    for (var c = lane; c < p.columns; c += LANES) {
        let d = x_load(start + c * x_step()) - mean;
        square += d * d;
    }
    let rate = 1.0 / sqrt(group_sum(square, lane) / n + p.eps);
    var sum_g = 0.0;
    var sum_gx = 0.0;
    for (var c = lane; c < p.columns; c += LANES) {
        let g = weighted(origin, c);
        sum_g += g;
        sum_gx += g * (x_load(start + c * x_step()) - mean) * rate;
    }
    let mean_g = group_sum(sum_g, lane) / n;
    let mean_gx = group_sum(sum_gx, lane) / n;
    for (var c = lane; c < p.columns; c += LANES) {
        let hat = (x_load(start + c * x_step()) - mean) * rate;
        dx_store(row * p.columns + c, (weighted(origin, c) - mean_g - hat * mean_gx) * rate);
    }
    if lane == 0u {
        mean_store(row, mean);
        rate_store(row, rate);
    }
}

fn weighted(from: u32, c: u32) -> f32 {
    let g = gradient_load(origin + c * gradient_step());
    if weight_present { return g * weight_load(weight_at(c)); }
    return g;
}
