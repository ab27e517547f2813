// dlogits = g (softmax(logits) sum p - p), p = (1 - eps) target + eps / K: a workgroup for each sample.
fn probability(row: u32, k: u32) -> f32 {
    var target_probability: f32;
    if LABELS == 1u {
        let label = target_int(target_at(row));
        if label < 0 || label >= i32(p.classes) { return nan(); }
        target_probability = select(0.0, 1.0, u32(label) == k);
    } else {
        target_probability = target_load(target_at(row * p.classes + k));
    }
    return (1.0 - p.smoothing) * target_probability + p.smoothing / f32(p.classes);
}

fn group(row: u32, lane: u32) {
    let start = logits_row(row);
    var largest = -infinity();
    for (var k = lane; k < p.classes; k += LANES) { largest = max_nan(largest, logits_load(start + k * logits_step())); }
    largest = group_max(largest, lane);
    var sum = 0.0;
    var total = 0.0;
    for (var k = lane; k < p.classes; k += LANES) {
        sum += exp_full(logits_load(start + k * logits_step()) - largest);
        total += probability(row, k);
    }
    sum = group_sum(sum, lane);
    total = group_sum(total, lane);
    let g = p.share * gradient_load(gradient_at(select(0u, row, EACH_LOSS == 1u)));
    for (var k = lane; k < p.classes; k += LANES) {
        let y = exp_full(logits_load(start + k * logits_step()) - largest) / sum;
        dlogits_store(row * p.classes + k, g * (y * total - probability(row, k)));
    }
}
