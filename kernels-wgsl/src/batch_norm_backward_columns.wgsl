// dweight = sum gradient x^, dbias = sum gradient per channel, rounded for the caller and not for the kernel that comes next: a workgroup
// for each.
fn group(c: u32, lane: u32) {
    let mean = mean_load(mean_at(c));
    let sigma = sqrt(variance_load(variance_at(c)) + p.eps);
    var dweight = 0.0;
    var dbias = 0.0;
    for (var row = lane; row < p.rows; row += LANES) {
        let g = gradient_load(gradient_row(row) + c * gradient_step());
        dweight += g * (x_load(x_row(row) + c * x_step()) - mean) / sigma;
        dbias += g;
    }
    dweight = group_sum(dweight, lane);
    dbias = group_sum(dbias, lane);
    if lane == 0u {
        dweight_store(c, dweight);
        dbias_store(c, dbias);
        sums_store(c, dweight);
        sums_store(p.channels + c, dbias);
    }
}
