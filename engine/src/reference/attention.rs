//! `softmax(scale · q·kᵀ) · v` along one axis of a grid of tokens.

use super::{Array, add_scaled, dot, operand, softmax::softmax};
use crate::{Result, ops::attention::Attention};

pub fn run(op: &Attention, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (q, k, v) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let out = q.shape.with_tail(1, &[v.shape[4]])?;
    let mut y = Array { shape: out, data: vec![0.0; out.elements()] };
    let lse = Array::from_fn(&q.shape[..4], |at| {
        let scores = scores(op.scale, op.axis, q, k, at);
        for (i, p) in softmax(&scores).into_iter().enumerate() {
            add_scaled(y.row_mut(at), p, v.row(&along(op.axis, at, i)));
        }
        log_sum_exp(&scores)
    })?;
    Ok(if op.lse { vec![y, lse] } else { vec![y] })
}

/// The index of token `i` along `axis` beside the token at `at`.
pub(super) fn along(axis: usize, at: &[usize], i: usize) -> [usize; 4] {
    let mut index = [at[0], at[1], at[2], at[3]];
    index[axis] = i;
    index
}

/// The scaled scores of the query at `at` with every key.
pub(super) fn scores(scale: f32, axis: usize, q: &Array, k: &Array, at: &[usize]) -> Vec<f64> {
    let query = q.row(&at[..4]);
    (0..k.shape[axis]).map(|i| f64::from(scale) * dot(query, k.row(&along(axis, at, i)))).collect()
}

fn log_sum_exp(row: &[f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return if row.iter().any(|x| x.is_nan()) { f64::NAN } else { max };
    }
    max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}
