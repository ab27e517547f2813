// dlogits = g (softmax(logits) sum p - p), p = (1 - eps) target + eps / K: a workgroup for each sample.
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
