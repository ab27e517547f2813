//! Targets in 0…1, with and without weights.

use super::{ANY, Draw, Operand, Sample, Tolerance, cross_entropy::REDUCTIONS, largest};
use crate::ops::binary_cross_entropy::BinaryCrossEntropy;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let shape = [draw.dim(), draw.dim()];
    let n: usize = shape.iter().product();
    let target = (0..n).map(|_| draw.rng.below(5) as f32 / 4.0).collect();
    let inputs = vec![
        Some(draw.operand(&shape)),
        Some(Operand::arranged(&mut draw.rng, draw.dtype, &shape, target)),
        draw.maybe(&shape[1..]),
    ];
    let op = BinaryCrossEntropy { reduction: REDUCTIONS[draw.rng.below(3)] };
    // A few functions per element, and a sum over elements.
    let scale = largest(&inputs) * (largest(&inputs[..1]) + 1.0) * (n as f64).max(1.0);
    Sample { op: op.into(), inputs, tolerance: vec![Tolerance::Roundings { factor: 4.0, scale }], prepare: false }
}
