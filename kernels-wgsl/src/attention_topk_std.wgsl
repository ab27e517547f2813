// The rows of softmax(scale q k^T) over time and their unbiased standard deviations: an invocation for each row of [B, T, N, heads]. The rows
// (once more through a softmax if RENORMALIZE) go to `weights`, which is short: T is a number of frames.
fn each(i: u32) {
    let h = i % p.heads;
    let n = i / p.heads % p.places;
    let t = i / p.heads / p.places % p.frames;
    let b = i / p.heads / p.places / p.frames;
    let query = q_index(b, t, n, h, 0u);
    let keys = k_index(b, 0u, n, h, 0u);
    let row = i * p.frames;
    var largest = -infinity();
    for (var j = 0u; j < p.frames; j += 1u) {
        var dot = 0.0;
        for (var c = 0u; c < p.width; c += 1u) { dot += q_load(query + c * p.q_s4) * k_load(keys + j * p.k_s1 + c * p.k_s4); }
        weights_data[row + j] = p.scale * dot;
        largest = max_nan(largest, p.scale * dot);
    }
    normalise(row, largest);
    var square = 0.0;
    for (var j = 0u; j < p.frames; j += 1u) {
        let d = weights_data[row + j] - 1.0 / f32(p.frames);
        square += d * d;
    }
    std_store(i, sqrt(square / f32(p.frames - 1u)));
    // Probabilities are at most 1, which serves as the maximum.
    if RENORMALIZE == 1u { normalise(row, 1.0); }
}

fn normalise(row: u32, largest: f32) {
    var sum = 0.0;
    for (var j = 0u; j < p.frames; j += 1u) {
        let power = exp_full(weights_data[row + j] - largest);
        weights_data[row + j] = power;
        sum += power;
    }
    for (var j = 0u; j < p.frames; j += 1u) { weights_data[row + j] /= sum; }
}
