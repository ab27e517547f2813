// dx = weight / sigma (gradient - (dbias + x^ dweight) / n), the mean terms only for statistics of the batch.
fn each(i: u32) {
    let c = i % p.channels;
    let sigma = sqrt(variance_load(variance_at(c)) + p.eps);
    var dx = gradient_load(gradient_at(i));
    if BATCH == 1u {
        let hat = (x_load(x_at(i)) - mean_load(mean_at(c))) / sigma;
        dx -= (sums_load(sums_at(p.channels + c)) + hat * sums_load(sums_at(c))) / f32(p.rows);
    }
    if weight_present { dx *= weight_load(weight_at(c)); }
    dx_store(i, dx / sigma);
}
