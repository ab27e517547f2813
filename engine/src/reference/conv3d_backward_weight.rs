//! Every product of a gradient with the voxel that its output read, added to the weight between them.

use super::{Array, add_scaled, conv3d::each_tap, operand};
use crate::{Result, Shape, ops::conv3d_backward_weight::Conv3dBackwardWeight};

pub fn run(op: &Conv3dBackwardWeight, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (video, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let [kt, kh, kw] = op.kernel;
    let shape = Shape::new(&[gradient.shape[4], kt, kh, kw, video.shape[4] / op.conv.groups])?;
    let mut dweight = Array { shape, data: vec![0.0; shape.elements()] };
    let (video, outputs) = (op.conv.normalised(video), gradient.shape[4]);
    each_tap(&op.conv, &video.shape, &shape, &gradient.shape, |from, tap, to| {
        for (o, &g) in gradient.row(to).iter().enumerate() {
            let taken = &video.row(from)[op.conv.first_channel(o, outputs, shape[4])..];
            add_scaled(dweight.row_mut(&[o, tap[0], tap[1], tap[2]]), g, taken);
        }
    });
    Ok(vec![dweight])
}
