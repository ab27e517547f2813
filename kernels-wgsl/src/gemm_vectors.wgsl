// Operands of f32 or f16 whose k lie side by side.
fn left4(batch: u32, m: u32, k: u32) -> vec4<Number> { return x_load4(x_row(batch * p.m + m) + k); }

fn right4(batch: u32, n: u32, k: u32) -> vec4<Number> { return weight_load4(weight_row_of(batch, n) + k); }
