//! Any `y` will do: the formula does not ask whether it is a softmax.

use super::{ANY, Draw, Sample, Tolerance, largest};
use crate::ops::softmax_backward::SoftmaxBackward;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let shape: Vec<usize> = (0..draw.rng.range(1, 3)).map(|_| draw.dim()).collect();
    let inputs = vec![Some(draw.operand(&shape)), Some(draw.operand(&shape))];
    let log = draw.once_in(2);
    // A sum of C terms, each at most y·g, times y; or a sum of C terms g times e⁵.
    let c = shape[shape.len() - 1] as f64;
    let (y, g) = (largest(&inputs[..1]), largest(&inputs[1..]));
    let scale = if log { g * y.exp() * c.sqrt() } else { y * y * g * c.sqrt() };
    let tolerance =
        if log { Tolerance::Roundings { factor: c.sqrt() + 8.0, scale } } else { draw.unless_integers(c.sqrt() + 8.0, scale) };
    Sample { op: SoftmaxBackward { log }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
