// y = (x - mean) / sqrt(var + eps) * weight + bias per channel.
fn each(i: u32) {
    let c = i % p.channels;
    var y = (x_load(x_at(i)) - mean_load(mean_at(c))) / sqrt(variance_load(variance_at(c)) + p.eps);
    if weight_present { y *= weight_load(weight_at(c)); }
    if bias_present { y += bias_load(bias_at(c)); }
    y_store(i, y);
}
