//! `eˣ⁻ᵐ / Σ eˣ⁻ᵐ` over the last dimension, or its logarithm.

use super::{Array, operand};
use crate::{Result, ops::softmax::Softmax};

pub fn run(op: &Softmax, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let x = operand(inputs, 0)?;
    let data = x.rows().flat_map(|row| if op.log { log_softmax(row) } else { softmax(row) }).collect();
    Ok(vec![Array { shape: x.shape, data }])
}

/// The largest; NaN if any is.
fn max(row: &[f64]) -> f64 {
    row.iter().copied().fold(f64::NEG_INFINITY, |m, x| if x.is_nan() || x > m { x } else { m })
}

pub(super) fn softmax(row: &[f64]) -> Vec<f64> {
    let m = max(row);
    let powers: Vec<f64> = row.iter().map(|x| (x - m).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

pub(super) fn log_softmax(row: &[f64]) -> Vec<f64> {
    let m = max(row);
    let log_sum = row.iter().map(|x| (x - m).exp()).sum::<f64>().ln();
    row.iter().map(|x| x - m - log_sum).collect()
}
