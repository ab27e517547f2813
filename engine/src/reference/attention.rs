//! `softmax(scale · q·kᵀ) · v` along one axis of a grid of tokens.

use super::{Array, operand, softmax::softmax};
use crate::{Result, ops::attention::Attention};

pub fn run(op: &Attention, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (q, k, v) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let out = q.shape.with_tail(1, &[v.shape[4]])?;
    let y = Array::from_fn(&out, |at| {
        let scores = scores(op.scale, op.axis, q, k, at);
        softmax(&scores).iter().enumerate().map(|(i, p)| p * v.at(&along(op.axis, at, i, at[4]))).sum()
    })?;
    if !op.lse {
        return Ok(vec![y]);
    }
    let lse = Array::from_fn(&q.shape[..4], |at| log_sum_exp(&scores(op.scale, op.axis, q, k, at)))?;
    Ok(vec![y, lse])
}

/// The index of token `i` along `axis` beside the token at `at`.
pub(super) fn along(axis: usize, at: &[usize], i: usize, channel: usize) -> [usize; 5] {
    let mut index = [at[0], at[1], at[2], at[3], channel];
    index[axis] = i;
    index
}

/// The scaled scores of the query at `at` with every key.
pub(super) fn scores(scale: f32, axis: usize, q: &Array, k: &Array, at: &[usize]) -> Vec<f64> {
    let width = q.shape[4];
    let dot = |i: usize| (0..width).map(|c| q.at(&along(axis, at, at[axis], c)) * k.at(&along(axis, at, i, c))).sum::<f64>();
    (0..k.shape[axis]).map(|i| f64::from(scale) * dot(i)).collect()
}

fn log_sum_exp(row: &[f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return if row.iter().any(|x| x.is_nan()) { f64::NAN } else { max };
    }
    max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}
