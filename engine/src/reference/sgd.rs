//! Stochastic gradient descent with momentum, as PyTorch has it.

use super::{Array, operand, optional};
use crate::{Result, ops::sgd::Sgd};

pub fn run(op: &Sgd, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let mut out = Vec::new();
    for group in inputs.chunks(3) {
        let (param, gradient, momentum) = (operand(group, 0)?, operand(group, 1)?, optional(group, 2));
        let mut updated = param.clone();
        let mut buffer = param.clone();
        for i in 0..param.data.len() {
            let g = op.gradient_scale * gradient.data[i] + op.weight_decay * param.data[i];
            let m = momentum.map_or(g, |m| op.momentum * m.data[i] + (1.0 - op.dampening) * g);
            let step = match (op.momentum == 0.0, op.nesterov) {
                (true, _) => g,
                (false, true) => g + op.momentum * m,
                (false, false) => m,
            };
            buffer.data[i] = m;
            updated.data[i] = param.data[i] - op.learning_rate * step;
        }
        out.extend([updated, buffer]);
    }
    Ok(out)
}
