//! Kernels shrunk, grown, and left as they are.

use super::{Draw, Sample, Tolerance, largest};
use crate::ops::interpolate_backward::InterpolateBackward;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    // Some devices leave out what has a weight of 0, some do not.
    draw.single_nan(0);
    let shape = [draw.some(4), draw.dim().min(17), draw.dim().min(17), draw.dim().min(17), draw.dim().min(20)];
    let op = InterpolateBackward { size: std::array::from_fn(|_| draw.some(9)), align_corners: draw.once_in(2) };
    let inputs = vec![Some(draw.operand(&shape))];
    // Along each axis, an element is read by at most m/n + 2 outputs on either side, with weights that sum to about m/n.
    let reads = |axis: usize| shape[1 + axis] as f64 / op.size[axis] as f64 + 2.0;
    let terms = reads(0) * reads(1) * reads(2);
    let tolerance = Tolerance::Roundings { factor: 12.0 + terms.sqrt(), scale: largest(&inputs) * terms };
    Sample { op: op.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
