//! Any statistics will do: the formula does not ask whose they are.

use super::{ANY, Draw, Operand, Sample, Tolerance, largest};
use crate::{DType, ops::batch_norm_backward::BatchNormBackward};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let batch = draw.once_in(2);
    let mut shape: Vec<usize> = (0..draw.rng.range(1, 4)).map(|_| draw.dim().min(12)).collect();
    shape.push(draw.dim());
    if batch {
        shape.iter_mut().for_each(|n| *n = (*n).max(1));
    }
    let c = shape[shape.len() - 1];
    let x = draw.operand(&shape);
    let weight = draw.maybe(&[c]);
    let gradient = draw.operand(&shape);
    let dtype = if batch { DType::F32 } else { draw.dtype };
    let numbers = |draw: &mut Draw<'_>, low: f32| (0..c).map(|_| low + draw.rng.below(8) as f32 / 4.0).collect();
    let (mean, variance) = (numbers(draw, -1.0), numbers(draw, 0.5));
    let statistics = [mean, variance].map(|values| Some(Operand::arranged(&mut draw.rng, dtype, &[c], values)));
    let [mean, variance] = statistics;
    let inputs = vec![Some(x), weight, mean, variance, Some(gradient)];
    // x̂ = (x − mean)/σ with σ ≥ 0.7; sums over n rows; dx a difference of three such terms.
    let n = (shape[..shape.len() - 1].iter().product::<usize>() as f64).sqrt() + 1.0;
    let hat = (largest(&inputs[..1]) + 1.0) * 1.5;
    let g = largest(&inputs[4..]);
    let first = Tolerance::Roundings { factor: 16.0 + n, scale: 1.5 * g * hat * hat * largest(&inputs[1..2]) };
    let second = Tolerance::Roundings { factor: 8.0 + n, scale: g * hat * n };
    let third = draw.unless_integers(n, g * n);
    let op = BatchNormBackward { eps: 1e-2, batch };
    Sample { op: op.into(), inputs, tolerance: vec![first, second, third], prepare: false }
}
