//! Every product of a gradient with a weight, added to the voxel that they met at.

use super::{Array, conv3d::each_product, operand};
use crate::{Result, Shape, ops::conv3d_backward_video::Conv3dBackwardVideo};

pub fn run(op: &Conv3dBackwardVideo, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (gradient, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let [t, h, w] = op.size;
    let shape = Shape::new(&[gradient.shape[0], t, h, w, weight.shape[4] * op.conv.groups])?;
    let mut dvideo = Array { shape, data: vec![0.0; shape.elements()] };
    each_product(&op.conv, &shape, &weight.shape, &gradient.shape, |v, w, g| {
        let scale = op.conv.scale.get(v[4]).map_or(1.0, |&scale| f64::from(scale));
        *dvideo.at_mut(v) += scale * gradient.at(g) * weight.at(w);
    });
    Ok(vec![dvideo])
}
