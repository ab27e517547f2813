// y = residual + f(alpha x W^T + bias)
fn weight_row_of(batch: u32, n: u32) -> u32 { return weight_row(select(0u, batch * p.n, BATCHED == 1u) + n); }

fn finish(batch: u32, m: u32, n: u32, sum: f32) {
    let i = (batch * p.m + m) * p.n + n;
    var y = p.alpha * sum;
    if bias_present { y += bias_load(bias_at(n)); }
    y = apply(FUNCTION, y);
    if residual_present { y += residual_load(residual_at(i)); }
    y_store(i, y);
}
