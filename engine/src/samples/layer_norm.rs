//! Rows of every length, with and without residual.

use super::{ANY, Draw, Sample, Tolerance, largest};
use crate::ops::layer_norm::LayerNorm;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let shape: Vec<usize> = (0..draw.rng.range(1, 3)).map(|_| draw.dim()).collect();
    let c = shape[shape.len() - 1];
    let mut inputs = vec![Some(draw.operand(&shape)), draw.maybe(&[c]), draw.maybe(&[c])];
    if draw.once_in(2) {
        inputs.push(Some(draw.operand(&shape)));
    }
    // y = (s − mean)/σ·w + b. The sum s is rounded once, the mean like √C sums: both relative to |s|, and divided by σ, which eps keeps above
    // 0.03; σ itself is a sum of squares. The second result is one sum.
    let eps = 1e-3;
    let s = 2.0 * largest(&inputs[..1]).max(inputs.get(3).map_or(1.0, |r| largest([r])));
    let spread = s / f64::from(eps).sqrt().max(spread(c));
    let scale = largest(&inputs[1..3]) * spread.max(1.0) * 2.0;
    let first = Tolerance::Roundings { factor: (c as f64).sqrt() + 12.0, scale };
    let second = draw.unless_integers(1.0, s);
    Sample { op: LayerNorm { eps }.into(), inputs, tolerance: vec![first, second], prepare: false }
}

/// A standard deviation that rows of this length rarely fall below: rows of one or two may be constant.
fn spread(c: usize) -> f64 {
    if c > 8 { 0.3 } else { 0.0 }
}
