//! Rows chosen along one dimension by clamped indices.

use super::{Array, operand};
use crate::{Result, ops::gather::Gather};

pub fn run(op: &Gather, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, indices) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let shape = indices.shape.with_tail(0, &[x.shape[x.shape.rank() - 1]])?;
    let y = Array::from_fn(&shape, |at| {
        let mut index = at.to_vec();
        let chosen = indices.at(&at[..at.len() - 1]);
        index[op.axis] = chosen.clamp(0.0, (x.shape[op.axis] - 1) as f64) as usize;
        x.at(&index)
    })?;
    Ok(vec![y])
}
