// One operand into its place: `size` of the `total` slices along the axis, from `start` on, each of `inner` elements.
fn each(i: u32) {
    let part = p.size * p.inner;
    let at = i / part * p.total * p.inner + p.start * p.inner + i % part;
    if INTEGERS == 1u { y_store_int(at, x_int(x_at(i))); } else { y_store(at, x_load(x_at(i))); }
}
