//! Every rank, with draws shared by any number of dimensions.

use super::{Draw, Sample, Tolerance, largest};
use crate::ops::dropout::Dropout;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    let shape: Vec<usize> = (0..draw.rng.below(4)).map(|_| draw.dim()).collect();
    let inputs = vec![Some(draw.operand(&shape))];
    let probability = [0.0, 0.1, 0.5, 0.75][draw.rng.below(4)];
    let shared = draw.rng.range(0, shape.len());
    let op = Dropout { probability, seed: u64::from(draw.rng.next_u32()) << 20, stream: draw.rng.below(9) as u64, shared };
    // One product with a rounded factor.
    let tolerance = Tolerance::Roundings { factor: 1.0, scale: largest(&inputs) };
    Sample { op: op.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
