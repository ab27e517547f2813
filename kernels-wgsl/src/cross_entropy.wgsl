// loss = -sum p log softmax(logits), p = (1 - eps) target + eps / K: a workgroup for each sample. A class of probability 0 counts 0 even
// where its logarithm is -infinity; a label outside gives NaN.
fn group(row: u32, lane: u32) {
    let start = logits_row(row);
    let powers = exponentials(row, lane);
    let log_sum = ln_full(powers.y);
    var loss = 0.0;
    for (var k = lane; k < p.classes; k += LANES) {
        let weight = probability(row, k);
        let logarithm = logits_load(start + k * logits_step()) - powers.x - log_sum;
        // Not `!=`, which shader compilers take to be false for NaN.
        if !(weight == 0.0) || is_nan(logarithm) { loss -= weight * logarithm; }
    }
    loss = group_sum(loss, lane);
    if lane == 0u { loss_store(row, loss); }
}
