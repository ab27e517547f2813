//! The operands of the forward operation, and a gradient.

use super::{Draw, Sample, Tolerance, binary_cross_entropy, cross_entropy_backward::gradient, largest};
use crate::{Op, ops::binary_cross_entropy_backward::BinaryCrossEntropyBackward};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    let forward = binary_cross_entropy::sample(draw);
    let Op::BinaryCrossEntropy(loss) = forward.op else { return forward };
    let mut inputs = forward.inputs;
    inputs.resize(3, None);
    let shape = inputs[0].as_ref().map_or_else(Vec::new, |x| x.shape().to_vec());
    inputs.push(Some(gradient(draw, loss.reduction, &shape)));
    let tolerance =
        Tolerance::Roundings { factor: 8.0, scale: largest(&inputs[2..3]) * largest(&inputs[1..2]) * largest(&inputs[3..]) };
    Sample { op: BinaryCrossEntropyBackward { loss }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
