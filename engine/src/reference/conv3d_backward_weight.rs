//! Every product of a gradient with the voxel that its output read, added to the weight between them.

use super::{Array, conv3d::each_product, operand};
use crate::{Result, Shape, ops::conv3d_backward_weight::Conv3dBackwardWeight};

pub fn run(op: &Conv3dBackwardWeight, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (video, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let [kt, kh, kw] = op.kernel;
    let shape = Shape::new(&[gradient.shape[4], kt, kh, kw, video.shape[4] / op.conv.groups])?;
    let mut dweight = Array { shape, data: vec![0.0; shape.elements()] };
    each_product(&op.conv, &video.shape, &shape, &gradient.shape, |v, w, g| {
        *dweight.at_mut(w) += gradient.at(g) * op.conv.normalised(video.at(v), v[4]);
    });
    Ok(vec![dweight])
}
