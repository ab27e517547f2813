// y[before, k, after, c] = x[before, indices[before, k, after], after, c], indices clamped.
fn each(i: u32) {
    let c = i % p.channels;
    let index = i / p.channels;
    let after = index % p.after;
    let before = index / p.after / p.chosen;
    let chosen = u32(clamp(indices_int(indices_at(index)), 0, i32(p.size) - 1));
    let origin = x_at(((before * p.size + chosen) * p.after + after) * p.channels + c);
    if INTEGERS == 1u { y_store_int(i, x_int(origin)); } else { y_store(i, x_load(origin)); }
}
