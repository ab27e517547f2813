//! `y = residual + f(alpha · x·Wᵀ + bias)`.

use super::{Array, dot, function, operand, optional};
use crate::{Result, ops::gemm::Gemm};

pub fn run(op: &Gemm, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, w) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let rank = x.shape.rank();
    let n = w.shape[w.shape.rank() - 2];
    let out = x.shape.with_tail(1, &[n])?;
    let y = Array::from_fn(&out, |at| {
        let (row, j) = (&at[..rank - 1], at[rank - 1]);
        // A weight without batch dimensions serves every batch element.
        let batch = if w.shape.rank() == 2 { &[] } else { &at[..rank - 2] };
        let sum = dot(x.row(row), w.row(&[batch, &[j]].concat()));
        let biased = f64::from(op.alpha) * sum + optional(inputs, 2).map_or(0.0, |bias| bias.at(&[j]));
        let activated = op.function.map_or(biased, |f| function(f, biased));
        activated + optional(inputs, 3).map_or(0.0, |residual| residual.at(at))
    })?;
    Ok(vec![y])
}
