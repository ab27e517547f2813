//! Kernels shrunk, grown, and left as they are.

use super::{Draw, Sample, Tolerance, largest};
use crate::ops::interpolate::Interpolate;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    // Some devices leave out what has a weight of 0, some do not.
    draw.single_nan(0);
    let shape = [draw.some(4), draw.some(9), draw.some(9), draw.some(9), draw.dim().min(20)];
    let op = Interpolate { size: std::array::from_fn(|_| draw.dim().min(17)), align_corners: draw.once_in(2) };
    let inputs = vec![Some(draw.operand(&shape))];
    // Three weights, rounded once each, their product, and a sum of eight.
    let tolerance = Tolerance::Roundings { factor: 12.0, scale: largest(&inputs) };
    Sample { op: op.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
