//! Each gradient back to the pixels that its output read.

use super::{Array, add_scaled, advance, operand, resize::taps};
use crate::{Result, Shape, ops::resize_backward::ResizeBackward};

pub fn run(op: &ResizeBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let gradient = operand(inputs, 0)?;
    let (g, [height, width]) = (&gradient.shape, op.size);
    let rows: Vec<_> = (0..g[1]).map(|i| taps(&op.resize, i, height, g[1])).collect();
    let columns: Vec<_> = (0..g[2]).map(|i| taps(&op.resize, i, width, g[2])).collect();
    let shape = Shape::new(&[g[0], height, width, g[3]])?;
    let mut dx = Array { shape, data: vec![0.0; shape.elements()] };
    let mut at = [0; 3];
    for _ in 0..g[..3].iter().product() {
        for &(h, a) in &rows[at[1]] {
            for &(w, b) in &columns[at[2]] {
                add_scaled(dx.row_mut(&[at[0], h, w]), a * b, gradient.row(&at));
            }
        }
        advance(&mut at, &g[..3]);
    }
    Ok(vec![dx])
}
