// dx = gradient * f'(x)
fn each(i: u32) { dx_store(i, gradient_load(gradient_at(i)) * derivative(FUNCTION, x_load(x_at(i)))); }
