//! Batch normalisation with running statistics and with the batch's own.

use super::{ANY, Draw, Operand, Sample, Tolerance, largest};
use crate::ops::batch_norm::BatchNorm;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let training = draw.once_in(2);
    let mut shape: Vec<usize> = (0..draw.rng.range(1, 4)).map(|_| draw.dim().min(12)).collect();
    shape.push(draw.dim());
    if training {
        shape.iter_mut().for_each(|n| *n = (*n).max(1));
    }
    let c = shape[shape.len() - 1];
    let mut inputs = vec![Some(draw.operand(&shape)), draw.maybe(&[c]), draw.maybe(&[c])];
    if !training {
        let variance = (0..c).map(|_| 0.5 + draw.rng.below(8) as f32 / 4.0).collect();
        inputs.extend([Some(draw.operand(&[c])), Some(Operand::arranged(&mut draw.rng, draw.dtype, &[c], variance))]);
    }
    // A difference, a product and a sum, each rounded once, of numbers divided by at least √eps.
    let eps = 1e-2;
    let scale = largest(&inputs[..1]) * largest(&inputs[1..3]) * 4.0 / f64::from(eps).sqrt();
    let y = Tolerance::Roundings { factor: 8.0, scale };
    // A block of 32 rows is summed in f32. Rounding i of a block is relative to i terms; where values repeat, all of them may
    // have one sign: of the mean term that is the mean of 1 to 32. The mean and the result are rounded as well.
    let statistics = Tolerance::Roundings { factor: 16.5 + 2.0, scale: largest(&inputs[..1]).powi(2) };
    Sample { op: BatchNorm { eps }.into(), inputs, tolerance: vec![y, statistics], prepare: false }
}
