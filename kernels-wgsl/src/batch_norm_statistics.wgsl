// Mean and biased variance of each channel, in two passes: a workgroup for each.
fn group(c: u32, lane: u32) {
    var sum = Sum();
    for (var row = lane; row < p.rows; row += LANES) { sum = sum_add(sum, x_load(x_row(row) + c * x_step())); }
    let mean = group_sum(sum_value(sum), lane) / f32(p.rows);
    var squares = Sum();
    for (var row = lane; row < p.rows; row += LANES) {
        let d = x_load(x_row(row) + c * x_step()) - mean;
        squares = sum_add(squares, d * d);
    }
    let square = group_sum(sum_value(squares), lane);
    if lane == 0u {
        mean_store(c, mean);
        variance_store(c, square / f32(p.rows));
    }
}
