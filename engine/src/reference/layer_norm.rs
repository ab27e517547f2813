//! `(s − mean)/√(var + eps) · weight + bias` over the last dimension, `s = x + residual`.

use super::{Array, operand, optional};
use crate::{Result, ops::layer_norm::LayerNorm};

pub fn run(op: &LayerNorm, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let x = operand(inputs, 0)?;
    let sum = Array::from_fn(&x.shape, |at| x.at(at) + optional(inputs, 3).map_or(0.0, |residual| residual.at(at)))?;
    let mut data = Vec::with_capacity(sum.data.len());
    for row in sum.rows() {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let var = row.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n;
        for (c, s) in row.iter().enumerate() {
            let weight = optional(inputs, 1).map_or(1.0, |weight| weight.at(&[c]));
            let bias = optional(inputs, 2).map_or(0.0, |bias| bias.at(&[c]));
            data.push((s - mean) / (var + f64::from(op.eps)).sqrt() * weight + bias);
        }
    }
    let y = Array { shape: x.shape, data };
    Ok(if optional(inputs, 3).is_some() { vec![y, sum] } else { vec![y] })
}
