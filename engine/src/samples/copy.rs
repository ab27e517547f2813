//! Copies between all element types that the device computes in.

use super::{Draw, Operand, Sample, Tolerance};
use crate::{DType, ops::copy::Copy};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    let shape: Vec<usize> = (0..draw.rng.below(5)).map(|_| draw.dim().min(40)).collect();
    let types = [DType::F32, DType::BF16, DType::F16, DType::U8, DType::I32];
    let (from, to) = (types[draw.rng.below(5)], types[draw.rng.below(5)]);
    let input = Operand::draw(&mut draw.rng, from, &shape, draw.values);
    // One conversion, defined to the last bit.
    Sample { op: Copy { dtype: to }.into(), inputs: vec![Some(input)], tolerance: vec![Tolerance::Exact], prepare: false }
}
