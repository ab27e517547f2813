// y = (s - mean) / sqrt(var + eps) * weight + bias with s = x + residual: a workgroup for each row, the variance in a second pass, where
// nothing cancels.
fn sum_at(row: u32, start: u32, c: u32) -> f32 {
    let x = x_load(start + c * x_step());
    if residual_present { return x + residual_load(residual_at(row * p.columns + c)); }
    return x;
}

fn group(row: u32, lane: u32) {
    let start = x_row(row);
    var sum = 0.0;
    for (var c = lane; c < p.columns; c += LANES) { sum += sum_at(row, start, c); }
    let mean = group_sum(sum, lane) / f32(p.columns);
    var square = 0.0;
    for (var c = lane; c < p.columns; c += LANES) {
        let d = sum_at(row, start, c) - mean;
        square += d * d;
    }
    let sigma = sqrt(group_sum(square, lane) / f32(p.columns) + p.eps);
    for (var c = lane; c < p.columns; c += LANES) {
        let s = sum_at(row, start, c);
        var y = (s - mean) / sigma;
        if weight_present { y *= weight_load(weight_at(c)); }
        if bias_present { y += bias_load(bias_at(c)); }
        y_store(row * p.columns + c, y);
        s_store(row * p.columns + c, s);
    }
}
