//! Pooling attention over 2 to 20 frames, on queries so apart that the order of the deviations survives rounding.

use super::{Draw, Sample, Tolerance, Values, attention::roundings, largest};
use crate::{DType, ops::attention_topk_std::AttentionTopkStd};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    // In half types, as in f32, scores come from the same rounded operands, but the margin between two deviations may be below a rounding.
    // Normal operands of many channels make such a tie of measure zero; f32 keeps the odds below one in a million cases.
    draw.dtype = DType::F32;
    draw.values = Values::Normal;
    let (b, n, heads) = (draw.some(2), draw.some(3), draw.some(3));
    let frames = draw.rng.range(2, 20);
    let width = draw.some(40).max(8);
    let shape = [b, frames, n, heads, width];
    let inputs = vec![Some(draw.operand(&shape)), Some(draw.operand(&shape)), Some(draw.operand(&shape))];
    let scale = (width as f32).sqrt().recip();
    let op = AttentionTopkStd { scale, keep: draw.rng.range(1, frames), renormalize: draw.once_in(2) };
    let (factor, _) = roundings(&inputs, width, f64::from(scale));
    let output = Tolerance::Roundings { factor: factor + 16.0, scale: largest(&inputs[2..]) };
    let deviation = Tolerance::Roundings { factor: factor + 16.0, scale: 1.0 };
    Sample { op: op.into(), inputs, tolerance: vec![output, Tolerance::Exact, deviation], prepare: false }
}
