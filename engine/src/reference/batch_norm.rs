//! `(x − mean)/√(var + eps) · weight + bias` per channel.

use super::{Array, operand, optional};
use crate::{Result, ops::batch_norm::BatchNorm};

pub fn run(op: &BatchNorm, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let x = operand(inputs, 0)?;
    let channels = x.shape[x.shape.rank() - 1];
    let running = optional(inputs, 3).zip(optional(inputs, 4));
    let (mean, var) = match running {
        Some((mean, var)) => (mean.clone(), var.clone()),
        None => statistics(x, channels)?,
    };
    let y = Array::from_fn(&x.shape, |at| {
        let c = [at[at.len() - 1]];
        let weight = optional(inputs, 1).map_or(1.0, |weight| weight.at(&c));
        let bias = optional(inputs, 2).map_or(0.0, |bias| bias.at(&c));
        (x.at(at) - mean.at(&c)) / (var.at(&c) + f64::from(op.eps)).sqrt() * weight + bias
    })?;
    Ok(if running.is_some() { vec![y] } else { vec![y, mean, var] })
}

/// Mean and biased variance of each channel.
fn statistics(x: &Array, channels: usize) -> Result<(Array, Array)> {
    let count = (x.data.len() / channels.max(1)) as f64;
    let mean = Array::from_fn(&[channels], |c| x.rows().map(|row| row[c[0]]).sum::<f64>() / count)?;
    let var = Array::from_fn(&[channels], |c| x.rows().map(|row| (row[c[0]] - mean.at(c)).powi(2)).sum::<f64>() / count)?;
    Ok((mean, var))
}
