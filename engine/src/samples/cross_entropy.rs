//! Labels, some of them out of range, and soft targets.

use super::{ANY, Draw, Operand, Sample, Tolerance, largest};
use crate::{
    DType,
    ops::cross_entropy::{CrossEntropy, LossReduction},
};

pub(super) const REDUCTIONS: [LossReduction; 3] = [LossReduction::None, LossReduction::Sum, LossReduction::Mean];

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let (n, classes) = (draw.dim(), draw.some(40));
    let logits = draw.operand(&[n, classes]);
    let target = if draw.once_in(2) {
        let beyond = if draw.once_in(4) { 1 } else { 0 };
        let labels = (0..n).map(|_| draw.rng.below(classes + beyond) as f32).collect();
        Operand::arranged(&mut draw.rng, DType::I32, &[n], labels)
    } else {
        let data = (0..n * classes).map(|_| draw.rng.below(5) as f32 / 4.0).collect();
        Operand::arranged(&mut draw.rng, draw.dtype, &[n, classes], data)
    };
    let op = CrossEntropy { label_smoothing: [0.0, 0.1, 1.0][draw.rng.below(3)], reduction: REDUCTIONS[draw.rng.below(3)] };
    let inputs = vec![Some(logits), Some(target)];
    // Log-softmax with C terms, and a weighted sum of C of them; sums over samples too.
    let scale = (2.0 * largest(&inputs[..1]) + 4.0) * (classes * n.max(1)) as f64;
    Sample { op: op.into(), inputs, tolerance: vec![Tolerance::Roundings { factor: 8.0, scale }], prepare: false }
}
