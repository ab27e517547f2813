//! Adam and AdamW, as PyTorch has them.

use super::{Array, operand, optional};
use crate::{Result, ops::adam::Adam};

pub fn run(op: &Adam, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let mut out = Vec::new();
    let (correct1, correct2) = (1.0 - op.beta1.powf(f64::from(op.step)), 1.0 - op.beta2.powf(f64::from(op.step)));
    for group in inputs.chunks(5) {
        let (param, gradient) = (operand(group, 0)?, operand(group, 1)?);
        let state = |k: usize, i: usize| optional(group, k).map_or(0.0, |state| state.data[i]);
        let [mut p, mut m, mut v, mut largest] = [(); 4].map(|()| param.clone());
        for i in 0..param.data.len() {
            let mut g = op.gradient_scale * gradient.data[i];
            if op.decoupled {
                p.data[i] *= 1.0 - op.learning_rate * op.weight_decay;
            } else {
                g += op.weight_decay * param.data[i];
            }
            m.data[i] = op.beta1 * state(2, i) + (1.0 - op.beta1) * g;
            v.data[i] = op.beta2 * state(3, i) + (1.0 - op.beta2) * g * g;
            largest.data[i] = if op.amsgrad { state(4, i).max(v.data[i]) } else { v.data[i] };
            p.data[i] -= op.learning_rate / correct1 * m.data[i] / ((largest.data[i] / correct2).sqrt() + op.eps);
        }
        out.extend([p, m, v, largest].into_iter().take(op.results()));
    }
    Ok(out)
}
