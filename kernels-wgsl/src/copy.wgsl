// A view in row-major order, converted. INTEGERS: from i32 to i32, which f32 would round.
fn each(i: u32) {
    if INTEGERS == 1u { y_store_int(i, x_int(x_at(i))); } else { y_store(i, x_load(x_at(i))); }
}
