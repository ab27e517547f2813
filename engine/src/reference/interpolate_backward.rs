//! Each gradient back to the eight elements that its output read.

use super::{Array, advance, interpolate::linear, operand};
use crate::{Result, Shape, ops::interpolate_backward::InterpolateBackward};

pub fn run(op: &InterpolateBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let gradient = operand(inputs, 0)?;
    let g = &gradient.shape;
    let shape = Shape::new(&[g[0], op.size[0], op.size[1], op.size[2], g[4]])?;
    let mut dx = Array { shape, data: vec![0.0; shape.elements()] };
    let mut at = [0; 5];
    for _ in 0..gradient.data.len() {
        let taps: [[(usize, f64); 2]; 3] =
            std::array::from_fn(|axis| linear(at[1 + axis], op.size[axis], g[1 + axis], op.align_corners));
        for (t, a) in taps[0] {
            for (h, b) in taps[1] {
                for (w, c) in taps[2] {
                    *dx.at_mut(&[at[0], t, h, w, at[4]]) += a * b * c * gradient.at(&at);
                }
            }
        }
        advance(&mut at, g);
    }
    Ok(vec![dx])
}
