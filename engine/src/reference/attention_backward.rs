//! `dv = Pᵀ·gradient`, `dS = P ∘ (gradient·vᵀ − D)`, `dq = scale·dS·k`, `dk = scale·dSᵀ·q` per head along one axis.

use super::{
    Array,
    attention::{along, scores},
    operand,
};
use crate::{Result, ops::attention_backward::AttentionBackward};

pub fn run(op: &AttentionBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let [q, k, v] = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    let (out, lse, gradient) = (operand(inputs, 3)?, operand(inputs, 4)?, operand(inputs, 5)?);
    let (axis, scale) = (op.axis, f64::from(op.scale));
    let mut results = [q, k, v].map(|x| Array { shape: x.shape, data: vec![0.0; x.data.len()] });
    // Every query: the index of its channel 0.
    let queries = Array::from_fn(&q.shape[..4], |_| 0.0)?;
    let mut at = vec![0; 4];
    for _ in 0..queries.data.len() {
        let query = [&at[..], &[0]].concat();
        let log = lse.at(&at);
        let dot = |i: usize| {
            (0..v.shape[4]).map(|c| gradient.at(&along(axis, &at, at[axis], c)) * v.at(&along(axis, &at, i, c))).sum::<f64>()
        };
        let d: f64 =
            (0..v.shape[4]).map(|c| gradient.at(&along(axis, &at, at[axis], c)) * out.at(&along(axis, &at, at[axis], c))).sum();
        for (i, score) in scores(op.scale, axis, q, k, &query).into_iter().enumerate() {
            let p = (score - log).exp();
            let ds = scale * p * (dot(i) - d);
            for c in 0..q.shape[4] {
                let (own, other) = (along(axis, &at, at[axis], c), along(axis, &at, i, c));
                *results[0].at_mut(&own) += ds * k.at(&other);
                *results[1].at_mut(&other) += ds * q.at(&own);
            }
            for c in 0..v.shape[4] {
                *results[2].at_mut(&along(axis, &at, i, c)) += p * gradient.at(&along(axis, &at, at[axis], c));
            }
        }
        super::advance(&mut at, &q.shape[..4]);
    }
    Ok(results.into())
}
