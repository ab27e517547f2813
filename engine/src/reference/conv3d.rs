//! Strided 3D convolution of a normalised video, zero outside it.

use super::{Array, operand, optional};
use crate::{Result, ops::conv3d::Conv3d};

pub fn run(op: &Conv3d, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (video, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (v, w) = (&video.shape, &weight.shape);
    let tubes = |axis: usize| op.tubes(axis, v[1 + axis], w[1 + axis]).unwrap_or(0);
    let mut y = Array::from_fn(&[v[0], tubes(0), tubes(1), tubes(2), w[0]], |at| {
        let bias = optional(inputs, 2).map_or(0.0, |bias| bias.at(&at[4..]));
        bias + optional(inputs, 3).map_or(0.0, |position| position.at(&at[1..]))
    })?;
    let out = y.shape;
    each_product(op, v, w, &out, |at_video, at_weight, at_result| {
        *y.at_mut(at_result) += weight.at(at_weight) * op.normalised(video.at(at_video), at_video[4]);
    });
    Ok(vec![y])
}

impl Conv3d {
    /// `scale[c]·x + shift[c]`.
    pub(super) fn normalised(&self, x: f64, c: usize) -> f64 {
        if self.scale.is_empty() { x } else { f64::from(self.scale[c]) * x + f64::from(self.shift[c]) }
    }
}

/// Calls `f(index in the video, index in the weight, index in the result)` for every product of the convolution; padding has none.
pub(super) fn each_product(
    op: &Conv3d,
    video: &[usize],
    weight: &[usize],
    result: &[usize],
    mut f: impl FnMut(&[usize; 5], &[usize; 5], &[usize; 5]),
) {
    let per_group = [result[4] / op.groups.max(1), weight[4]];
    let inside = |at: &[usize], tap: &[usize], axis: usize| {
        let position = at[1 + axis] * op.stride[axis] + op.offset[axis] + tap[1 + axis];
        position.checked_sub(op.padding[axis]).filter(|&p| p < video[1 + axis])
    };
    let (mut at, mut tap) = ([0; 5], [0; 5]);
    for _ in 0..result.iter().product() {
        for _ in 0..weight[1..].iter().product() {
            tap[0] = at[4];
            if let (Some(t), Some(h), Some(w)) = (inside(&at, &tap, 0), inside(&at, &tap, 1), inside(&at, &tap, 2)) {
                let first = at[4] / per_group[0] * per_group[1];
                f(&[at[0], t, h, w, first + tap[4]], &tap, &at);
            }
            super::advance(&mut tap[1..], &weight[1..]);
        }
        super::advance(&mut at, result);
    }
}
