//! Rows of every length, with infinities and NaN among them.

use super::{Draw, Sample, Tolerance, largest};
use crate::ops::softmax::Softmax;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    let shape: Vec<usize> = (0..draw.rng.range(1, 3)).map(|_| draw.dim()).collect();
    let inputs = vec![Some(draw.operand(&shape))];
    let log = draw.once_in(2);
    // A difference, an exponential of two ulp, a sum of C, a division; the logarithm is relative to the largest difference.
    let c = shape[shape.len() - 1] as f64;
    let scale = if log { 2.0 * largest(&inputs) } else { 1.0 };
    let tolerance = Tolerance::Roundings { factor: c.sqrt() + 8.0, scale };
    Sample { op: Softmax { log }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
