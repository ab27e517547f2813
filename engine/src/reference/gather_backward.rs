//! Each row of the gradient added to the row that was selected.

use super::{Array, add_scaled, advance, operand};
use crate::{Result, Shape, ops::gather_backward::GatherBackward};

pub fn run(op: &GatherBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (gradient, indices) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let mut shape = gradient.shape.to_vec();
    shape[op.axis] = op.size;
    let shape = Shape::new(&shape)?;
    let mut dx = Array { shape, data: vec![0.0; shape.elements()] };
    let outer = &gradient.shape[..shape.rank() - 1];
    let mut at = vec![0; outer.len()];
    for row in gradient.rows().take(outer.iter().product()) {
        let mut index = at.clone();
        index[op.axis] = indices.at(&at).clamp(0.0, (op.size - 1) as f64) as usize;
        add_scaled(dx.row_mut(&index), 1.0, row);
        advance(&mut at, outer);
    }
    Ok(vec![dx])
}
