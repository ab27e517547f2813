// One workgroup for each row: its maximum, the sum of e^(x - max), the results. A row with a NaN is NaN.
fn group(row: u32, lane: u32) {
    let start = x_row(row);
    var largest = -infinity();
    for (var c = lane; c < p.columns; c += LANES) { largest = max_nan(largest, x_load(start + c * x_step())); }
    largest = group_max(largest, lane);
    var sum = 0.0;
    for (var c = lane; c < p.columns; c += LANES) { sum += exp_full(x_load(start + c * x_step()) - largest); }
    sum = group_sum(sum, lane);
    let log_sum = ln_full(sum);
    for (var c = lane; c < p.columns; c += LANES) {
        let x = x_load(start + c * x_step()) - largest;
        if LOG_RESULT == 1u { y_store(row * p.columns + c, x - log_sum); } else { y_store(row * p.columns + c, exp_full(x) / sum); }
    }
}
