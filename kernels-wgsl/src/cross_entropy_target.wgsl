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
