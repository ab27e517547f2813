//! The operands of the forward operation, and a gradient.

use super::{Draw, Sample, Tolerance, cross_entropy, largest};
use crate::{
    DType, Op,
    ops::{
        cross_entropy::{CrossEntropy, LossReduction},
        cross_entropy_backward::CrossEntropyBackward,
    },
};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    let forward = cross_entropy::sample(draw);
    let Op::CrossEntropy(loss) = forward.op else { return forward };
    let mut inputs = forward.inputs;
    inputs.push(Some(gradient(draw, loss.reduction, inputs[0].as_ref().map_or(&[], |x| &x.shape()[..1]))));
    // A softmax times the sum of the targets, which is at most C, minus a target.
    let classes = inputs[0].as_ref().map_or(1, |x| x.shape()[1]) as f64;
    let tolerance = Tolerance::Roundings { factor: 8.0, scale: largest(&inputs[2..]) * (classes + 1.0) };
    let loss: CrossEntropy = loss;
    Sample { op: CrossEntropyBackward { loss }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}

/// A gradient of the loss, f32 whatever the logits are.
pub(super) fn gradient(draw: &mut Draw<'_>, reduction: LossReduction, each: &[usize]) -> super::Operand {
    let (dtype, values) = (DType::F32, draw.values);
    super::Operand::draw(&mut draw.rng, dtype, if reduction == LossReduction::None { each } else { &[] }, values)
}
