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
    let sigma: Vec<f64> = var.data.iter().map(|var| (var + f64::from(op.eps)).sqrt()).collect();
    let mut y = x.clone();
    for row in y.data.chunks_mut(channels.max(1)) {
        for (c, x) in row.iter_mut().enumerate() {
            let weight = optional(inputs, 1).map_or(1.0, |weight| weight.data[c]);
            let bias = optional(inputs, 2).map_or(0.0, |bias| bias.data[c]);
            *x = (*x - mean.data[c]) / sigma[c] * weight + bias;
        }
    }
    Ok(if running.is_some() { vec![y] } else { vec![y, mean, var] })
}

/// Mean and biased variance of each channel.
fn statistics(x: &Array, channels: usize) -> Result<(Array, Array)> {
    let count = (x.data.len() / channels.max(1)) as f64;
    let average = |term: &dyn Fn(usize, f64) -> f64| {
        let mut sums = Array::from_fn(&[channels], |_| 0.0)?;
        for row in x.rows() {
            row.iter().enumerate().zip(&mut sums.data).for_each(|((c, &x), sum)| *sum += term(c, x));
        }
        sums.data.iter_mut().for_each(|sum| *sum /= count);
        Ok::<_, crate::Error>(sums)
    };
    let mean = average(&|_, x| x)?;
    let var = average(&|c, x| (x - mean.data[c]).powi(2))?;
    Ok((mean, var))
}
