//! `dv = Pᵀ·gradient`, `dS = P ∘ (gradient·vᵀ − D)`, `dq = scale·dS·k`, `dk = scale·dSᵀ·q` per head along one axis.

use super::{
    Array, add_scaled,
    attention::{along, scores},
    dot, operand,
};
use crate::{Result, ops::attention_backward::AttentionBackward};

pub fn run(op: &AttentionBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let [q, k, v] = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    let (out, lse, gradient) = (operand(inputs, 3)?, operand(inputs, 4)?, operand(inputs, 5)?);
    let (axis, scale) = (op.axis, f64::from(op.scale));
    let mut results = [q, k, v].map(|x| Array { shape: x.shape, data: vec![0.0; x.data.len()] });
    let mut at = vec![0; 4];
    for _ in 0..q.shape[..4].iter().product() {
        let (log, gradient) = (lse.at(&at), gradient.row(&at));
        let d = dot(gradient, out.row(&at));
        for (i, score) in scores(op.scale, axis, q, k, &at).into_iter().enumerate() {
            let other = along(axis, &at, i);
            let p = (score - log).exp();
            let ds = scale * p * (dot(gradient, v.row(&other)) - d);
            add_scaled(results[0].row_mut(&at), ds, k.row(&other));
            add_scaled(results[1].row_mut(&other), ds, q.row(&at));
            add_scaled(results[2].row_mut(&other), p, gradient);
        }
        super::advance(&mut at, &q.shape[..4]);
    }
    Ok(results.into())
}
