//! Indices inside and outside of the axis.

use super::{Draw, Operand, Sample, Tolerance};
use crate::{DType, ops::gather::Gather};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    let mut shape: Vec<usize> = (0..draw.rng.range(2, 5)).map(|_| draw.dim().min(12)).collect();
    let axis = draw.rng.below(shape.len() - 1);
    shape[axis] = shape[axis].max(1);
    let dtype = [draw.dtype, DType::U8][draw.rng.below(2)];
    let x = Operand::draw(&mut draw.rng, dtype, &shape, draw.values);
    let mut chosen = shape[..shape.len() - 1].to_vec();
    chosen[axis] = draw.dim().min(12);
    let n = chosen.iter().product();
    let data = (0..n).map(|_| draw.rng.below(shape[axis] + 4) as f32 - 2.0).collect();
    let indices = Operand::arranged(&mut draw.rng, DType::I32, &chosen, data);
    Sample { op: Gather { axis }.into(), inputs: vec![Some(x), Some(indices)], tolerance: vec![Tolerance::Exact], prepare: false }
}
