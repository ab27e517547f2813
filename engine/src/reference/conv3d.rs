//! Strided 3D convolution of a normalised video, zero outside it.

use super::{Array, operand, optional};
use crate::{Result, ops::conv3d::Conv3d};

pub fn run(op: &Conv3d, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (video, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (v, w) = (&video.shape, &weight.shape);
    let tubes = |axis: usize| op.tubes(axis, v[1 + axis], w[1 + axis]).unwrap_or(0);
    let per_group = (w[0] / op.groups, w[4]);
    let voxel = |b: usize, at: [usize; 3], c: usize| {
        let inside = |axis: usize| at[axis].checked_sub(op.padding[axis]).filter(|&i| i < v[1 + axis]);
        let (Some(t), Some(h), Some(w)) = (inside(0), inside(1), inside(2)) else { return 0.0 };
        let x = video.at(&[b, t, h, w, c]);
        if op.scale.is_empty() { x } else { f64::from(op.scale[c]) * x + f64::from(op.shift[c]) }
    };
    let y = Array::from_fn(&[v[0], tubes(0), tubes(1), tubes(2), w[0]], |at| {
        let start: [usize; 3] = std::array::from_fn(|axis| at[1 + axis] * op.stride[axis] + op.offset[axis]);
        let (o, first) = (at[4], at[4] / per_group.0 * per_group.1);
        let mut sum = optional(inputs, 2).map_or(0.0, |bias| bias.at(&[o]));
        sum += optional(inputs, 3).map_or(0.0, |position| position.at(&at[1..]));
        for i in 0..w[1] {
            for j in 0..w[2] {
                for k in 0..w[3] {
                    for c in 0..w[4] {
                        sum += weight.at(&[o, i, j, k, c]) * voxel(at[0], [start[0] + i, start[1] + j, start[2] + k], first + c);
                    }
                }
            }
        }
        sum
    })?;
    Ok(vec![y])
}
