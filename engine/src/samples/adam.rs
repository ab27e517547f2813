//! Steps of both kinds of weight decay, of several tensors.

use super::{Draw, Operand, Sample, Tolerance, Values};
use crate::{DType, ops::adam::Adam};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    (draw.dtype, draw.values) = (DType::F32, Values::Normal);
    let first = draw.once_in(2);
    let op = Adam {
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-3,
        weight_decay: if draw.once_in(2) { 0.0 } else { 0.05 },
        decoupled: draw.once_in(2),
        amsgrad: draw.once_in(2),
        step: if first { 1 } else { draw.rng.range(2, 100) as u32 },
        gradient_scale: 0.5,
    };
    let mut inputs = Vec::new();
    for _ in 0..draw.rng.range(1, 4) {
        let shape: Vec<usize> = (0..draw.rng.below(3)).map(|_| draw.dim()).collect();
        inputs.extend([Some(draw.operand(&shape)), Some(draw.operand(&shape))]);
        let squares = |draw: &mut Draw<'_>| {
            let n = shape.iter().product();
            let data = (0..n).map(|_| draw.rng.normal().powi(2) + 0.1).collect();
            Operand::arranged(&mut draw.rng, DType::F32, &shape, data)
        };
        if first {
            inputs.extend([None, None, None]);
        } else {
            let bound = if op.amsgrad { Some(squares(draw)) } else { None };
            inputs.extend([Some(draw.operand(&shape)), Some(squares(draw)), bound]);
        }
    }
    // A dozen operations on numbers up to 36 (squares of normal ones), the constants rounded once each.
    Sample { op: op.into(), inputs, tolerance: vec![Tolerance::Roundings { factor: 12.0, scale: 36.0 }], prepare: false }
}
