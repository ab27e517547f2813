//! One to four operands along every axis.

use super::{Draw, Operand, Sample, Tolerance};
use crate::{DType, ops::concat::Concat};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    let dtype = [draw.dtype, DType::U8, DType::I32][draw.rng.below(3)];
    let mut shape: Vec<usize> = (0..draw.rng.range(1, 4)).map(|_| draw.dim().min(20)).collect();
    let axis = draw.rng.below(shape.len());
    let count = draw.rng.range(1, 4);
    let mut inputs = Vec::new();
    for _ in 0..count {
        shape[axis] = draw.dim().min(20);
        inputs.push(Some(Operand::draw(&mut draw.rng, dtype, &shape, draw.values)));
    }
    Sample { op: Concat { axis }.into(), inputs, tolerance: vec![Tolerance::Exact], prepare: false }
}
