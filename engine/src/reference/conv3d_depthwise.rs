//! Depthwise 3D convolution with stride 1, zero outside.

use super::{Array, operand, optional};
use crate::{Result, ops::conv3d_depthwise::Conv3dDepthwise};

pub fn run(op: &Conv3dDepthwise, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (s, w) = (&x.shape, &weight.shape);
    let size = |axis: usize| s[1 + axis] + 2 * op.padding[axis] + 1 - w[axis];
    let y = Array::from_fn(&[s[0], size(0), size(1), size(2), s[4]], |at| {
        let c = at[4];
        let mut sum = optional(inputs, 2).map_or(0.0, |bias| bias.at(&[c]));
        sum += optional(inputs, 3).map_or(0.0, |residual| residual.at(at));
        for i in 0..w[0] {
            for j in 0..w[1] {
                for k in 0..w[2] {
                    let tap = [i, j, k];
                    let inside =
                        |axis: usize| (at[1 + axis] + tap[axis]).checked_sub(op.padding[axis]).filter(|&p| p < s[1 + axis]);
                    if let (Some(t), Some(h), Some(w)) = (inside(0), inside(1), inside(2)) {
                        sum += weight.at(&[i, j, k, c]) * x.at(&[at[0], t, h, w, c]);
                    }
                }
            }
        }
        sum
    })?;
    Ok(vec![y])
}
