// What the loss of a sample and its gradient share.

// (1 - eps) target + eps / K of class k of a sample; NaN for a label outside.
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

// The largest logit of a sample and the sum of e^(logit - largest), by its workgroup.
fn exponentials(row: u32, lane: u32) -> vec2<f32> {
    let start = logits_row(row);
    var largest = -infinity();
    for (var k = lane; k < p.classes; k += LANES) { largest = max_nan(largest, logits_load(start + k * logits_step())); }
    largest = group_max(largest, lane);
    var sum = 0.0;
    for (var k = lane; k < p.classes; k += LANES) { sum += exp_full(logits_load(start + k * logits_step()) - largest); }
    return vec2<f32>(largest, group_sum(sum, lane));
}
