//! Images of bytes and floats, all filters.

use super::{Draw, Operand, Sample, Tolerance, largest};
use crate::{
    DType,
    ops::resize::{Filter, Resize},
};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    // Some devices leave out what has a weight of 0, some do not.
    draw.single_nan(0);
    let shape = [draw.some(3), draw.some(30), draw.some(30), draw.some(4)];
    let filter = [Filter::Bilinear, Filter::Bicubic][draw.rng.below(2)];
    let antialias = draw.once_in(2);
    let op = Resize {
        height: draw.dim().min(33),
        width: draw.dim().min(33),
        filter,
        antialias,
        align_corners: !antialias && draw.once_in(2),
    };
    let dtype = if draw.once_in(2) { DType::U8 } else { draw.dtype };
    let inputs = vec![Some(Operand::draw(&mut draw.rng, dtype, &shape, draw.values))];
    // Two weighted sums of up to 60 taps, whose weights are rounded once and sum to at most 2 in magnitude.
    let tolerance = Tolerance::Roundings { factor: 40.0, scale: 2.0 * largest(&inputs) };
    Sample { op: op.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
