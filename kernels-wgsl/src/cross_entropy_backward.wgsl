// dlogits = g (softmax(logits) sum p - p), p = (1 - eps) target + eps / K: a workgroup for each sample.
fn group(row: u32, lane: u32) {
    let start = logits_row(row);
    let powers = exponentials(row, lane);
    var total = 0.0;
    for (var k = lane; k < p.classes; k += LANES) { total += probability(row, k); }
    total = group_sum(total, lane);
    let g = p.share * gradient_load(gradient_at(select(0u, row, EACH_LOSS == 1u)));
    for (var k = lane; k < p.classes; k += LANES) {
        let y = exp_full(logits_load(start + k * logits_step()) - powers.x) / powers.y;
        dlogits_store(row * p.classes + k, g * (y * total - probability(row, k)));
    }
}
