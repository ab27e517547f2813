//! Every operator, with every kind of broadcasting.

use super::{Draw, Sample, Tolerance};
use crate::ops::binary::{Binary, Operator};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    let shape: Vec<usize> = (0..draw.rng.below(5)).map(|_| draw.dim().min(40)).collect();
    let narrowed = |draw: &mut Draw<'_>| -> Vec<usize> {
        let skip = if draw.once_in(3) { draw.rng.below(shape.len() + 1) } else { 0 };
        shape[skip..].iter().map(|&n| if draw.once_in(4) { 1 } else { n }).collect()
    };
    let (a, b) = if draw.once_in(2) { (shape.clone(), narrowed(draw)) } else { (narrowed(draw), shape.clone()) };
    let all = [Operator::Add, Operator::Sub, Operator::Mul, Operator::Div, Operator::Max, Operator::Min];
    let operator = all[draw.rng.below(6)];
    // As models have them: kernels may read such operands as vectors.
    let inputs = match draw.once_in(4) {
        true => {
            let shape = [&shape[..], &[4]].concat();
            vec![Some(draw.operand(&shape).dense()), Some(draw.operand(&shape).dense())]
        }
        false => vec![Some(draw.operand(&a)), Some(draw.operand(&b))],
    };
    // One operation, rounded once to f32 and once to the element type.
    Sample {
        op: Binary { operator }.into(),
        inputs,
        tolerance: vec![Tolerance::Roundings { factor: 0.0, scale: 0.0 }],
        prepare: false,
    }
}
