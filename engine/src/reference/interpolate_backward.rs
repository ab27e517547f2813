//! Each gradient back to the eight elements that its output read.

use super::{Array, add_scaled, interpolate::each_tap, operand};
use crate::{Result, Shape, ops::interpolate_backward::InterpolateBackward};

pub fn run(op: &InterpolateBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let gradient = operand(inputs, 0)?;
    let g = &gradient.shape;
    let shape = Shape::new(&[g[0], op.size[0], op.size[1], op.size[2], g[4]])?;
    let mut dx = Array { shape, data: vec![0.0; shape.elements()] };
    each_tap(&shape, g, op.align_corners, |to, from, weight| add_scaled(dx.row_mut(to), weight, gradient.row(from)));
    Ok(vec![dx])
}
