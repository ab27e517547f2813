//! Attention along both axes, with one query, few and many, and queries and keys beyond a block.

use super::{Draw, Operand, Sample, Tolerance, largest};
use crate::{DType, ops::attention::Attention};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    // Not in values: on tensor cores short sequences share a tile, and weights of 0 times NaN of another sequence are NaN.
    draw.single_nan(2);
    let axis = draw.rng.range(1, 2);
    let mut q = [draw.some(2), draw.some(4), draw.some(4), draw.some(3), 0];
    q[axis] = match draw.rng.below(12) {
        0..4 => draw.some(4),
        // More than a block of the kernels' has.
        4 if draw.size > 40 => 64 + draw.rng.below(40),
        _ => draw.some(60),
    };
    // As models have them: kernels may read such heads as vectors.
    let dense = draw.once_in(3);
    let [width, value_width] = match draw.once_in(2) {
        wide if dense && draw.size > 40 => [if wide { wide_head(draw) } else { 4 * draw.some(16) }; 2],
        _ if dense => [4 * draw.some(16); 2],
        true => [draw.some(33), draw.some(33)],
        false => [draw.some(64); 2],
    };
    q[4] = width;
    let mut k = q;
    k[axis] = match draw.rng.below(8) {
        0 => 0,
        1 if draw.size > 40 => 384 + draw.rng.below(40),
        2 | 3 => q[axis],
        _ => draw.some(60),
    };
    let mut v = k;
    v[4] = value_width;
    let inputs = [q, k, v].map(|shape| {
        let x = draw.operand(&shape);
        Some(if dense { x.dense() } else { x })
    });
    let inputs = Vec::from(inputs);
    let scale = (width as f32).sqrt().recip();
    let (factor, score) = roundings(&inputs, width, f64::from(scale));
    let lse = draw.once_in(2);
    let largest_value = largest(&inputs[2..]);
    let keys = k[axis] as f64;
    let tolerance = vec![
        Tolerance::Roundings { factor: factor + keys.sqrt() * 2.0 + weights(draw.dtype), scale: largest_value },
        Tolerance::Roundings { factor: factor + 8.0, scale: score.max(1.0) },
    ];
    Sample { op: Attention { scale, axis, lse }.into(), inputs, tolerance, prepare: false }
}

/// A head as large models have them, 72 to 96.
pub(super) fn wide_head(draw: &mut Draw<'_>) -> usize {
    8 * draw.rng.range(9, 12)
}

/// Roundings of f32 that one rounding of a probability to bf16, 2⁻⁹, is worth: kernels may multiply values by such, as PyTorch's do.
/// Probabilities `p(1 + δ)` that are divided by their own total move a result by `Σ pδ·(v − out)`, at most `2⁻⁹` of the mean deviation of the
/// values, which is at most the largest. Probabilities of f16 are not rounded.
pub(super) fn weights(dtype: DType) -> f64 {
    if dtype == DType::BF16 { 2f64.powi(24 - 9) } else { 0.0 }
}

/// Roundings of a probability, relative to itself: a score of D products is off by about √D roundings of the largest score, doubled because
/// numerator and denominator are; the exponential adds a few. Also the largest score.
pub(super) fn roundings(inputs: &[Option<Operand>], width: usize, scale: f64) -> (f64, f64) {
    let root = (width as f64).sqrt();
    let score = largest(&inputs[..1]) * largest(&inputs[1..2]) * scale * root;
    (2.0 * (root + 2.0) * score.max(1.0) + 8.0, score)
}
