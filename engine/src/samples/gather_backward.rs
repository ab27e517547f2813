//! Indices inside and outside of the axis, many of them repeated.

use super::{ANY, Draw, Operand, Sample, largest};
use crate::{DType, ops::gather_backward::GatherBackward};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let shape: Vec<usize> = (0..draw.rng.range(2, 5)).map(|_| draw.dim().min(12)).collect();
    let axis = draw.rng.below(shape.len() - 1);
    let size = draw.some(12);
    let chosen = &shape[..shape.len() - 1];
    let data = (0..chosen.iter().product()).map(|_| draw.rng.below(size + 4) as f32 - 2.0).collect();
    let indices = Operand::arranged(&mut draw.rng, DType::I32, chosen, data);
    let inputs = vec![Some(draw.operand(&shape)), Some(indices)];
    // A sum of at most K.
    let terms = shape[axis].max(1) as f64;
    let tolerance = draw.unless_integers(terms.sqrt() + 1.0, largest(&inputs[..1]) * terms);
    Sample { op: GatherBackward { axis, size }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
