//! `−Σ p · log softmax(logits)`, `p = (1 − ε)·target + ε/K`.

use super::{Array, operand, softmax::log_softmax};
use crate::{
    Result, Shape,
    ops::cross_entropy::{CrossEntropy, LossReduction},
};

pub fn run(op: &CrossEntropy, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (logits, target) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (n, classes) = (logits.shape[0], logits.shape[1]);
    let loss = |i: usize| {
        let row = log_softmax(&logits.data[i * classes..][..classes]);
        // A class of probability 0 counts 0 even where its logarithm is −∞.
        let term = |(p, log): (f64, &f64)| if p == 0.0 && !log.is_nan() { 0.0 } else { -p * log };
        probabilities(op, target, i, classes).into_iter().zip(&row).map(term).sum()
    };
    Ok(vec![reduce(op.reduction, (0..n).map(loss).collect(), &[n])?])
}

/// The target distribution of sample `i`; NaN for a label outside.
pub(super) fn probabilities(op: &CrossEntropy, target: &Array, i: usize, classes: usize) -> Vec<f64> {
    let epsilon = f64::from(op.label_smoothing);
    let probability = |k: usize| match target.shape.rank() {
        1 if !(0.0..classes as f64).contains(&target.at(&[i])) => f64::NAN,
        1 => f64::from(target.at(&[i]) == k as f64),
        _ => target.at(&[i, k]),
    };
    (0..classes).map(|k| (1.0 - epsilon) * probability(k) + epsilon / classes as f64).collect()
}

/// The losses of samples as one, or as they are.
pub(super) fn reduce(reduction: LossReduction, losses: Vec<f64>, each: &[usize]) -> Result<Array> {
    let sum: f64 = losses.iter().sum();
    match reduction {
        LossReduction::None => Ok(Array { shape: Shape::new(each)?, data: losses }),
        LossReduction::Sum => Ok(Array { shape: Shape::new(&[])?, data: vec![sum] }),
        LossReduction::Mean => Ok(Array { shape: Shape::new(&[])?, data: vec![sum / losses.len() as f64] }),
    }
}
