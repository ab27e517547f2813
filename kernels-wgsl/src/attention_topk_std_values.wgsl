// The kept rows times the values: an invocation for each element of [B, keep, N, heads, D].
fn each(i: u32) {
    let c = i % p.width;
    let row = i / p.width;
    let h = row % p.heads;
    let n = row / p.heads % p.places;
    let b = row / p.heads / p.places / p.keep;
    let frame = u32(kept_int(kept_at(row)));
    let weights = (((b * p.frames + frame) * p.places + n) * p.heads + h) * p.frames;
    let values = v_index(b, 0u, n, h, c);
    var sum = 0.0;
    for (var j = 0u; j < p.frames; j += 1u) { sum += weights_load(weights_at(weights + j)) * v_load(values + j * p.v_s1); }
    y_store(i, sum);
}
