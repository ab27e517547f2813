//! Every product of a gradient with a weight, added to the voxel that they met at.

use super::{Array, add_scaled, conv3d::each_tap, operand};
use crate::{Result, Shape, ops::conv3d_backward_video::Conv3dBackwardVideo};

pub fn run(op: &Conv3dBackwardVideo, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (gradient, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let [t, h, w] = op.size;
    let shape = Shape::new(&[gradient.shape[0], t, h, w, weight.shape[4] * op.conv.groups])?;
    let mut dvideo = Array { shape, data: vec![0.0; shape.elements()] };
    let (outputs, width) = (gradient.shape[4], weight.shape[4]);
    each_tap(&op.conv, &shape, &weight.shape, &gradient.shape, |to, tap, from| {
        for (o, &g) in gradient.row(from).iter().enumerate() {
            let first = op.conv.first_channel(o, outputs, width);
            add_scaled(&mut dvideo.row_mut(to)[first..], g, weight.row(&[o, tap[0], tap[1], tap[2]]));
        }
    });
    for row in dvideo.data.chunks_mut(op.conv.scale.len().max(1)) {
        row.iter_mut().zip(&op.conv.scale).for_each(|(x, &scale)| *x *= f64::from(scale));
    }
    Ok(vec![dvideo])
}
