// y = residual + f(alpha x W^T + bias)
fn left(batch: u32, m: u32, k: u32) -> f32 {
    return x_load(x_row(batch * p.m + m) + k * x_step());
}

fn right(batch: u32, n: u32, k: u32) -> f32 {
    return weight_load(weight_row(select(0u, batch * p.n, BATCHED == 1u) + n) + k * weight_step());
}

fn finish(batch: u32, m: u32, n: u32, sum: f32) {
    let i = (batch * p.m + m) * p.n + n;
    var y = p.alpha * sum;
    if bias_present { y += bias_load(bias_at(n)); }
    y = apply(FUNCTION, y);
    if residual_present { y += residual_load(residual_at(i)); }
    y_store(i, y);
}
