//! All filters; gradients of shrunk and of grown images.

use super::{Draw, Sample, Tolerance, largest};
use crate::ops::{
    resize::{Filter, Resize},
    resize_backward::ResizeBackward,
};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    // Some devices leave out what has a weight of 0, some do not.
    draw.single_nan(0);
    let shape = [draw.some(3), draw.dim().min(33), draw.dim().min(33), draw.some(4)];
    let size = [draw.some(30), draw.some(30)];
    let filter = [Filter::Bilinear, Filter::Bicubic][draw.rng.below(2)];
    let antialias = draw.once_in(2);
    let align_corners = !antialias && draw.once_in(2);
    let resize = Resize { height: shape[1], width: shape[2], filter, antialias, align_corners };
    let inputs = vec![Some(draw.operand(&shape))];
    // Along each axis, a pixel is read by at most 2·(m/n + 2) outputs with weights of at most 1 in magnitude, which are rounded once each;
    // so are the positions that they follow from.
    let reads = |axis: usize| 2.0 * (shape[1 + axis] as f64 / size[axis] as f64 + 2.0);
    let terms = reads(0) * reads(1);
    let tolerance = Tolerance::Roundings { factor: 40.0 + terms.sqrt(), scale: largest(&inputs) * terms };
    Sample { op: ResizeBackward { resize, size }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
