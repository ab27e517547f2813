//! Every reduction over every set of dimensions.

use super::{Draw, Sample, Tolerance, Values, largest};
use crate::ops::reduce::{Reduce, Reduction};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    let shape: Vec<usize> = (0..draw.rng.range(1, 4)).map(|_| draw.dim().min(24)).collect();
    let axes: Vec<usize> = (0..shape.len()).filter(|_| draw.once_in(2)).collect();
    let reduction = [Reduction::Sum, Reduction::Mean, Reduction::Max, Reduction::Squares][draw.rng.below(4)];
    let inputs = vec![Some(draw.operand(&shape))];
    let count = axes.iter().map(|&d| shape[d]).product::<usize>() as f64;
    // Summed in f64 and rounded once; a blocked f32 sum would be off by about √n roundings of the sum of magnitudes.
    let tolerance = match (reduction, draw.values) {
        (Reduction::Max, _) => Tolerance::Exact,
        (Reduction::Sum | Reduction::Squares, Values::Integers) => Tolerance::Exact,
        (Reduction::Sum, _) => Tolerance::Roundings { factor: count.sqrt(), scale: largest(&inputs) * count.sqrt() },
        // Squares are rounded, too, and all of one sign.
        (Reduction::Squares, _) => {
            Tolerance::Roundings { factor: count.sqrt() + 1.0, scale: largest(&inputs).powi(2) * count.max(1.0) }
        }
        (Reduction::Mean, _) => Tolerance::Roundings { factor: 2.0, scale: largest(&inputs) },
    };
    Sample { op: Reduce { reduction, axes }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
