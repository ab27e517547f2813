//! Every function's derivative, everywhere.

use super::{Draw, Sample, Tolerance, largest, unary::brief};
use crate::{Function, ops::unary_backward::UnaryBackward};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    let shape: Vec<usize> = (0..draw.rng.below(4)).map(|_| draw.dim()).collect();
    let function = Function::ALL[draw.rng.below(Function::ALL.len())];
    let inputs = vec![Some(draw.operand(&shape)), Some(draw.operand(&shape))];
    // The kernels promise a few roundings of the largest derivative: that of e⁵ for normal numbers, 1.2 for activations, whose
    // arguments below 6 are rounded before the exponential; 1/x and ½/√x are rounded relative to themselves, which the check allows anyway.
    let factor = match function {
        Function::Relu | Function::Neg => 0.0,
        Function::Exp => 4.0 * 160.0,
        // A slope is made of a function and of what differs from it as its products with the argument do: twice a function's error.
        _ => 24.0 + 2.0 * brief(function, draw.dtype),
    };
    let tolerance = if factor == 0.0 { Tolerance::Exact } else { Tolerance::Roundings { factor, scale: largest(&inputs[1..]) } };
    Sample { op: UnaryBackward { function }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
