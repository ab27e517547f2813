//! `y · (gradient − Σ gradient·y)`, and for the logarithm `gradient − eʸ · Σ gradient`.

use super::{Array, operand};
use crate::{Result, ops::softmax_backward::SoftmaxBackward};

pub fn run(op: &SoftmaxBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (y, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let mut data = Vec::with_capacity(y.data.len());
    for (y, g) in y.rows().zip(gradient.rows()) {
        if op.log {
            let sum: f64 = g.iter().sum();
            data.extend(y.iter().zip(g).map(|(y, g)| g - y.exp() * sum));
        } else {
            data.extend(backward(y, g));
        }
    }
    Ok(vec![Array { shape: y.shape, data }])
}

/// Back through a softmax with result `y`.
pub(super) fn backward(y: &[f64], gradient: &[f64]) -> Vec<f64> {
    let dot: f64 = y.iter().zip(gradient).map(|(y, g)| y * g).sum();
    y.iter().zip(gradient).map(|(y, g)| y * (g - dot)).collect()
}
