// One step of Adam or AdamW on one tensor; the launcher has the bias corrections.
fn each(i: u32) {
    var value = param_load(param_at(i));
    var g = p.gradient_scale * gradient_load(gradient_at(i));
    if DECOUPLED == 1u { value -= value * p.decay; } else { g += p.decay * value; }
    let m = p.beta1 * m_load(m_at(i)) + p.rest1 * g;
    let v = p.beta2 * v_load(v_at(i)) + p.rest2 * g * g;
    var largest = v;
    if AMSGRAD == 1u { largest = max_nan(v, largest_load(largest_at(i))); }
    new_param_store(i, value - p.rate * m / (sqrt(largest) * p.correction + p.eps));
    new_m_store(i, m);
    new_v_store(i, v);
    if AMSGRAD == 1u { new_largest_store(i, largest); }
}
