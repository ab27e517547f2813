//! Rows chosen along one dimension by clamped indices.

use super::{Array, advance, operand};
use crate::{Result, ops::gather::Gather};

pub fn run(op: &Gather, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, indices) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let shape = indices.shape.with_tail(0, &[x.shape[x.shape.rank() - 1]])?;
    let mut data = Vec::with_capacity(shape.elements());
    let mut at = vec![0; indices.shape.rank()];
    for chosen in &indices.data {
        let mut index = at.clone();
        index[op.axis] = chosen.clamp(0.0, (x.shape[op.axis] - 1) as f64) as usize;
        data.extend_from_slice(x.row(&index));
        advance(&mut at, &indices.shape);
    }
    Ok(vec![Array { shape, data }])
}
