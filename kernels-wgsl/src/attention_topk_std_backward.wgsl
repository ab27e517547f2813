// Back through the kept rows: an invocation for each of [B, keep, N, heads]. `first` becomes the row of softmax(scale q k^T), `weights` the
// row that multiplied the values, `ds` the gradient of the scores; all are short, since T is a number of frames.
fn each(i: u32) {
    let h = i % p.heads;
    let n = i / p.heads % p.places;
    let slot = i / p.heads / p.places % p.keep;
    let b = i / p.heads / p.places / p.keep;
    let frame = u32(clamp(kept_int(kept_at(i)), 0, i32(p.frames) - 1));
    let query = q_index(b, frame, n, h, 0u);
    let keys = k_index(b, 0u, n, h, 0u);
    let values = v_index(b, 0u, n, h, 0u);
    let upstream = gradient_index(b, slot, n, h, 0u);
    let row = i * p.frames;
    var largest = -infinity();
    for (var j = 0u; j < p.frames; j += 1u) {
        var dot = 0.0;
        for (var c = 0u; c < p.width; c += 1u) { dot += q_load(query + c * p.q_s4) * k_load(keys + j * p.k_s1 + c * p.k_s4); }
        first_data[row + j] = p.scale * dot;
        largest = max_nan(largest, p.scale * dot);
    }
    var sum = 0.0;
    for (var j = 0u; j < p.frames; j += 1u) {
        first_data[row + j] = exp_full(first_data[row + j] - largest);
        sum += first_data[row + j];
    }
    var second = 0.0;
    for (var j = 0u; j < p.frames; j += 1u) {
        first_data[row + j] /= sum;
        var weight = first_data[row + j];
        if RENORMALIZE == 1u { weight = exp_full(weight - 1.0); }
        weights_data[row + j] = weight;
        second += weight;
        var dot = 0.0;
        for (var c = 0u; c < p.value_width; c += 1u) {
            dot += gradient_load(upstream + c * p.gradient_s4) * v_load(values + j * p.v_s1 + c * p.v_s4);
        }
        ds_data[row + j] = dot;
    }
    if RENORMALIZE == 1u {
        var inner = 0.0;
        for (var j = 0u; j < p.frames; j += 1u) {
            weights_data[row + j] /= second;
            inner += weights_data[row + j] * ds_data[row + j];
        }
        for (var j = 0u; j < p.frames; j += 1u) { ds_data[row + j] = weights_data[row + j] * (ds_data[row + j] - inner); }
    }
    var inner = 0.0;
    for (var j = 0u; j < p.frames; j += 1u) { inner += first_data[row + j] * ds_data[row + j]; }
    for (var j = 0u; j < p.frames; j += 1u) { ds_data[row + j] = p.scale * first_data[row + j] * (ds_data[row + j] - inner); }
}
