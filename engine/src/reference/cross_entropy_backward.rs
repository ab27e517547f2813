//! `g · (softmax(logits) · Σ p − p)`, `p = (1 − ε)·target + ε/K`.

use super::{Array, cross_entropy::probabilities, operand, softmax::softmax};
use crate::{
    Result,
    ops::cross_entropy_backward::{CrossEntropyBackward, share},
};

pub fn run(op: &CrossEntropyBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (logits, target, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let (n, classes) = (logits.shape[0], logits.shape[1]);
    let share = share(op.loss.reduction, n);
    let mut data = Vec::with_capacity(logits.data.len());
    for i in 0..n {
        let p = probabilities(&op.loss, target, i, classes);
        let g = share * if gradient.shape.rank() == 1 { gradient.at(&[i]) } else { gradient.data[0] };
        let total: f64 = p.iter().sum();
        let y = softmax(&logits.data[i * classes..][..classes]);
        data.extend(y.iter().zip(&p).map(|(y, p)| g * (y * total - p)));
    }
    Ok(vec![Array { shape: logits.shape, data }])
}
