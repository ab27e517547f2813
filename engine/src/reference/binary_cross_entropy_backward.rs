//! `g · ((1 − y)·σ(x) − w·y·(1 − σ(x)))`.

use super::{Array, operand, optional, unary::function};
use crate::{
    Function, Result,
    ops::{binary_cross_entropy_backward::BinaryCrossEntropyBackward, cross_entropy_backward::share},
};

pub fn run(op: &BinaryCrossEntropyBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (logits, target, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 3)?);
    let share = share(op.loss.reduction, logits.data.len());
    let dx = Array::from_fn(&logits.shape, |at| {
        let (x, y) = (logits.at(at), target.at(at));
        let w = optional(inputs, 2).map_or(1.0, |weight| weight.at(&at[1..]));
        let g = share * if gradient.shape.rank() == 2 { gradient.at(at) } else { gradient.data[0] };
        g * ((1.0 - y) * function(Function::Sigmoid, x) - w * y * function(Function::Sigmoid, -x))
    })?;
    Ok(vec![dx])
}
