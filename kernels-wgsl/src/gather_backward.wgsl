// dx[before, a, after, c] = sum of gradient[before, k, after, c] over the k whose clamped index is a, in the order of k.
fn each(i: u32) {
    let c = i % p.channels;
    let after = i / p.channels % p.after;
    let a = i32(i / p.channels / p.after % p.size);
    let before = i / p.channels / p.after / p.size;
    var sum = 0.0;
    for (var k = 0u; k < p.chosen; k += 1u) {
        let index = (before * p.chosen + k) * p.after + after;
        if clamp(indices_int(indices_at(index)), 0, i32(p.size) - 1) == a {
            sum += gradient_load(gradient_at(index * p.channels + c));
        }
    }
    dx_store(i, sum);
}
