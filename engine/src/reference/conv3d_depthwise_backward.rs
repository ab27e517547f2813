//! Every product of the depthwise convolution, gone back through to the operand and to the weight.

use super::{Array, advance, operand};
use crate::{Result, ops::conv3d_depthwise_backward::Conv3dDepthwiseBackward};

pub fn run(op: &Conv3dDepthwiseBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, weight, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let [mut dx, mut dweight] = [x, weight].map(|x| Array { shape: x.shape, data: vec![0.0; x.data.len()] });
    let (mut at, mut tap) = ([0usize; 5], [0usize; 3]);
    for _ in 0..gradient.data.len() {
        for _ in 0..weight.shape[..3].iter().product() {
            let inside =
                |axis: usize| (at[1 + axis] + tap[axis]).checked_sub(op.padding[axis]).filter(|&p| p < x.shape[1 + axis]);
            if let (Some(t), Some(h), Some(w)) = (inside(0), inside(1), inside(2)) {
                let (from, of) = ([at[0], t, h, w, at[4]], [tap[0], tap[1], tap[2], at[4]]);
                *dx.at_mut(&from) += gradient.at(&at) * weight.at(&of);
                *dweight.at_mut(&of) += gradient.at(&at) * x.at(&from);
            }
            advance(&mut tap, &weight.shape[..3]);
        }
        advance(&mut at, &gradient.shape);
    }
    Ok(vec![dx, dweight])
}
