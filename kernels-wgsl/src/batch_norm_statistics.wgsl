// Mean and biased variance of each channel, in two passes: a workgroup for each.
fn group(c: u32, lane: u32) {
    var sum = 0.0;
    for (var row = lane; row < p.rows; row += LANES) { sum += x_load(x_row(row) + c * x_step()); }
    let mean = group_sum(sum, lane) / f32(p.rows);
    var square = 0.0;
    for (var row = lane; row < p.rows; row += LANES) {
        let d = x_load(x_row(row) + c * x_step()) - mean;
        square += d * d;
    }
    square = group_sum(square, lane);
    if lane == 0u {
        mean_store(c, mean);
        variance_store(c, square / f32(p.rows));
    }
}
