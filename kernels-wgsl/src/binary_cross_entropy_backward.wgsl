// dlogits = g ((1 - y) sigmoid(x) - w y sigmoid(-x))
fn each(i: u32) {
    let x = logits_load(logits_at(i));
    let y = target_load(target_at(i));
    var weight = 1.0;
    if weight_present { weight = weight_load(weight_at(i % p.classes)); }
    let g = p.share * gradient_load(gradient_at(select(0u, i, EACH_LOSS == 1u)));
    dlogits_store(i, g * ((1.0 - y) * sigmoid(x) - weight * y * sigmoid(-x)));
}
