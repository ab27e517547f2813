// Operands of any type and strides.
fn left(batch: u32, m: u32, k: u32) -> f32 { return x_load(x_row(batch * p.m + m) + k * x_step()); }

fn right(batch: u32, n: u32, k: u32) -> f32 { return weight_load(weight_row_of(batch, n) + k * weight_step()); }
