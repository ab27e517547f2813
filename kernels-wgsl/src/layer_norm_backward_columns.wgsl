// dweight = sum gradient x^, dbias = sum gradient over the rows: a workgroup for each column.
fn group(c: u32, lane: u32) {
    var dweight = 0.0;
    var dbias = 0.0;
    for (var row = lane; row < p.rows; row += LANES) {
        let g = gradient_load(gradient_row(row) + c * gradient_step());
        dweight += g * (x_load(x_row(row) + c * x_step()) - mean_load(mean_at(row))) * rate_load(rate_at(row));
        dbias += g;
    }
    dweight = group_sum(dweight, lane);
    dbias = group_sum(dbias, lane);
    if lane == 0u {
        dweight_store(c, dweight);
        dbias_store(c, dbias);
    }
}
