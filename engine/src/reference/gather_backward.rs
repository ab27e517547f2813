//! Each row of the gradient added to the row that was selected.

use super::{Array, advance, operand};
use crate::{Result, Shape, ops::gather_backward::GatherBackward};

pub fn run(op: &GatherBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (gradient, indices) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let mut shape = gradient.shape.to_vec();
    shape[op.axis] = op.size;
    let shape = Shape::new(&shape)?;
    let mut dx = Array { shape, data: vec![0.0; shape.elements()] };
    let mut at = vec![0; shape.rank()];
    for _ in 0..gradient.data.len() {
        let mut index = at.clone();
        let chosen = indices.at(&at[..at.len() - 1]);
        index[op.axis] = chosen.clamp(0.0, (op.size - 1) as f64) as usize;
        *dx.at_mut(&index) += gradient.at(&at);
        advance(&mut at, &gradient.shape);
    }
    Ok(vec![dx])
}
