//! Strided 3D convolution of a normalised video, zero outside it.

use super::{Array, dot, operand, optional};
use crate::{Result, ops::conv3d::Conv3d};

pub fn run(op: &Conv3d, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (video, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (v, w) = (&video.shape, &weight.shape);
    let tubes = |axis: usize| op.tubes(axis, v[1 + axis], w[1 + axis]).unwrap_or(0);
    let mut y = Array::from_fn(&[v[0], tubes(0), tubes(1), tubes(2), w[0]], |at| {
        let bias = optional(inputs, 2).map_or(0.0, |bias| bias.at(&at[4..]));
        bias + optional(inputs, 3).map_or(0.0, |position| position.at(&at[1..]))
    })?;
    let video = op.normalised(video);
    let out = y.shape;
    each_tap(op, v, w, &out, |from, tap, to| {
        let taken = video.row(from);
        for (o, y) in y.row_mut(to).iter_mut().enumerate() {
            *y += dot(weight.row(&[o, tap[0], tap[1], tap[2]]), &taken[op.first_channel(o, out[4], w[4])..]);
        }
    });
    Ok(vec![y])
}

impl Conv3d {
    /// `scale[c]·x + shift[c]`.
    pub(super) fn normalised(&self, video: &Array) -> Array {
        let mut video = video.clone();
        for row in video.data.chunks_mut(self.scale.len().max(1)) {
            for ((x, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
                *x = f64::from(*scale) * *x + f64::from(*shift);
            }
        }
        video
    }

    /// The first channel of the video that output `o` of `outputs` reads, of `width` that it reads in all.
    pub(super) fn first_channel(&self, o: usize, outputs: usize, width: usize) -> usize {
        o / (outputs / self.groups.max(1)) * width
    }
}

/// Calls `f(index of the video's row, tap, index of the result's row)` for every pair of rows that the convolution
/// multiplies; padding has none.
pub(super) fn each_tap(
    op: &Conv3d,
    video: &[usize],
    weight: &[usize],
    result: &[usize],
    mut f: impl FnMut(&[usize; 4], &[usize; 3], &[usize; 4]),
) {
    let (mut at, mut tap) = ([0; 4], [0; 3]);
    for _ in 0..result[..4].iter().product() {
        for _ in 0..weight[1..4].iter().product() {
            let inside = |axis: usize| {
                let position = at[1 + axis] * op.stride[axis] + op.offset[axis] + tap[axis];
                position.checked_sub(op.padding[axis]).filter(|&p| p < video[1 + axis])
            };
            if let (Some(t), Some(h), Some(w)) = (inside(0), inside(1), inside(2)) {
                f(&[at[0], t, h, w], &tap, &at);
            }
            super::advance(&mut tap, &weight[1..4]);
        }
        super::advance(&mut at, &result[..4]);
    }
}
