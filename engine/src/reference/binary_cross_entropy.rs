//! `−(w·y·log σ(x) + (1 − y)·log(1 − σ(x)))`.

use super::{Array, cross_entropy::reduce, operand, optional};
use crate::{Result, ops::binary_cross_entropy::BinaryCrossEntropy};

pub fn run(op: &BinaryCrossEntropy, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (logits, target) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let losses = Array::from_fn(&logits.shape, |at| {
        let (x, y) = (logits.at(at), target.at(at));
        let weight = optional(inputs, 2).map_or(1.0, |weight| weight.at(&at[1..]));
        // log(1 + e^(−|x|)) does not overflow.
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        weight * y * softplus(-x) + (1.0 - y) * softplus(x)
    })?;
    Ok(vec![reduce(op.reduction, losses.data, &logits.shape)?])
}
