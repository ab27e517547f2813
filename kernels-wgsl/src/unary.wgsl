// y = f(x)
fn each(i: u32) { y_store(i, apply(FUNCTION, x_load(x_at(i)))); }
