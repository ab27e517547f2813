// One step of stochastic gradient descent on one tensor. On the first step the momentum buffer is the gradient.
fn each(i: u32) {
    let value = param_load(param_at(i));
    let g = p.gradient_scale * gradient_load(gradient_at(i)) + p.decay * value;
    var m = g;
    if buffer_present { m = p.momentum * buffer_load(buffer_at(i)) + p.rest * g; }
    var step = m;
    if MOMENTUM == 0u { step = g; } else if NESTEROV == 1u { step = g + p.momentum * m; }
    new_param_store(i, value - p.learning_rate * step);
    new_buffer_store(i, m);
}
