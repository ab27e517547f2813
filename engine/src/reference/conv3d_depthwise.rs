//! Depthwise 3D convolution with stride 1, zero outside.

use super::{Array, conv3d::each_tap, operand, optional};
use crate::{
    Result,
    ops::{conv3d::Conv3d, conv3d_depthwise::Conv3dDepthwise},
};

pub fn run(op: &Conv3dDepthwise, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, weight) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (s, w) = (&x.shape, &weight.shape);
    let size = |axis: usize| s[1 + axis] + 2 * op.padding[axis] + 1 - w[axis];
    let mut y = Array::from_fn(&[s[0], size(0), size(1), size(2), s[4]], |at| {
        let bias = optional(inputs, 2).map_or(0.0, |bias| bias.at(&at[4..]));
        bias + optional(inputs, 3).map_or(0.0, |residual| residual.at(at))
    })?;
    each_tap(&stepless(op.padding), s, &[&[1], &w[..]].concat(), &y.shape.clone(), |from, tap, to| {
        add_product(y.row_mut(to), weight.row(tap), x.row(from));
    });
    Ok(vec![y])
}

/// The strided convolution that meets the same taps.
pub(super) fn stepless(padding: [usize; 3]) -> Conv3d {
    Conv3d { padding, ..Conv3d::new([1; 3]) }
}

/// `sum += a ∘ b`.
pub(super) fn add_product(sum: &mut [f64], a: &[f64], b: &[f64]) {
    sum.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| *sum += a * b);
}
