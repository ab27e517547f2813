//! Steps with and without momentum, of several tensors.

use super::{Draw, Sample, Tolerance, Values};
use crate::{DType, ops::sgd::Sgd};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    (draw.dtype, draw.values) = (DType::F32, Values::Normal);
    let momentum = if draw.once_in(3) { 0.0 } else { 0.9 };
    let op = Sgd {
        learning_rate: 0.1,
        momentum,
        dampening: if draw.once_in(2) { 0.0 } else { 0.3 },
        weight_decay: if draw.once_in(2) { 0.0 } else { 0.01 },
        nesterov: draw.once_in(2),
        gradient_scale: 0.5,
    };
    let first = draw.once_in(2);
    let mut inputs = Vec::new();
    for _ in 0..draw.rng.range(1, 4) {
        let shape: Vec<usize> = (0..draw.rng.below(3)).map(|_| draw.dim()).collect();
        let state = if first { None } else { Some(draw.operand(&shape)) };
        inputs.extend([Some(draw.operand(&shape)), Some(draw.operand(&shape)), state]);
    }
    // Half a dozen operations on normal numbers, the constants rounded once each.
    Sample { op: op.into(), inputs, tolerance: vec![Tolerance::Roundings { factor: 8.0, scale: 6.0 }], prepare: false }
}
