// y = f(x), four elements at a time.
fn each(i: u32) { y_store4(4u * i, vec4<Number>(apply_four(FUNCTION, vec4<f32>(x_load4(x_at(4u * i)))))); }
