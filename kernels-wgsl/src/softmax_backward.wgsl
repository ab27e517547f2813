// dx = y (gradient - sum gradient y), or for the logarithm gradient - e^y sum gradient: a workgroup for each row.
fn group(row: u32, lane: u32) {
    let y_start = y_row(row);
    let start = gradient_row(row);
    var sum = 0.0;
    for (var c = lane; c < p.columns; c += LANES) {
        let g = gradient_load(start + c * gradient_step());
        if LOG_RESULT == 1u { sum += g; } else { sum += g * y_load(y_start + c * y_step()); }
    }
    sum = group_sum(sum, lane);
    for (var c = lane; c < p.columns; c += LANES) {
        let g = gradient_load(start + c * gradient_step());
        let y = y_load(y_start + c * y_step());
        if LOG_RESULT == 1u {
            dx_store(row * p.columns + c, g - exp_full(y) * sum);
        } else {
            dx_store(row * p.columns + c, y * (g - sum));
        }
    }
}
