//! Rows of every length.

use super::{ANY, Draw, Sample, Tolerance, largest};
use crate::ops::layer_norm_backward::LayerNormBackward;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let shape: Vec<usize> = (0..draw.rng.range(1, 3)).map(|_| draw.dim()).collect();
    let c = shape[shape.len() - 1];
    let rows: usize = shape[..shape.len() - 1].iter().product();
    let inputs = vec![Some(draw.operand(&shape)), draw.maybe(&[c]), Some(draw.operand(&shape))];
    // x̂ is at most √C, and off by √C roundings of |x|/σ, where σ ≥ √eps = 0.1; dx is a difference of numbers of the size g·x̂²/σ in which three
    // such errors meet.
    let eps = 1e-2;
    let root = (c as f64).sqrt();
    let (x, g) = (largest(&inputs[..1]), largest(&inputs[2..]) * largest(&inputs[1..2]));
    let hat = (2.0 * x / 0.1).min(2.0 * root + 1.0).max(1.0);
    // The error of x̂, in roundings: those of the mean and of σ, relative to |x|/σ.
    let factor = (root + 12.0) * (x / 0.1 / hat).max(1.0).min(x * 10.0);
    let first = Tolerance::Roundings { factor, scale: g * hat / 0.1 };
    let rows = (rows as f64).sqrt() * 2.0 + 1.0;
    let second = Tolerance::Roundings { factor: factor + rows, scale: largest(&inputs[2..]) * hat * rows };
    let third = draw.unless_integers(rows, largest(&inputs[2..]) * rows);
    Sample { op: LayerNormBackward { eps }.into(), inputs, tolerance: vec![first, second, third], prepare: false }
}
