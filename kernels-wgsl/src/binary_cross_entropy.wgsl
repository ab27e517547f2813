// loss = w y softplus(-x) + (1 - y) softplus(x); log(1 + e^-|x|) does not overflow.
fn each(i: u32) {
    let x = logits_load(logits_at(i));
    let y = target_load(target_at(i));
    let rest = ln_1p(exp_full(-abs(x)));
    var weight = 1.0;
    if weight_present { weight = weight_load(weight_at(i % p.classes)); }
    loss_store(i, weight * y * (max_nan(-x, 0.0) + rest) + (1.0 - y) * (max_nan(x, 0.0) + rest));
}
