//! Every function, everywhere.

use super::{Draw, Sample, Tolerance};
use crate::{DType, Function, ops::unary::Unary};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    let shape: Vec<usize> = (0..draw.rng.below(4)).map(|_| draw.dim()).collect();
    let function = Function::ALL[draw.rng.below(Function::ALL.len())];
    let inputs = vec![Some(draw.operand(&shape))];
    // The kernels promise a few units in the last place of the result; the activations that pass through 0 promise them relative to
    // the argument, which for normal numbers is below 6. (Their tails, e⁻ˣ for x to 1e4, are relative again, and so is what `brief` allows:
    // less than the roundings of the result that every tolerance has.)
    let tolerance = match function {
        Function::Relu | Function::Neg => Tolerance::Exact,
        // Of normal numbers the largest exponential is about e⁵.
        Function::Exp => Tolerance::Roundings { factor: 4.0, scale: 160.0 },
        _ => Tolerance::Roundings { factor: 4.0, scale: 6.0 },
    };
    Sample { op: Unary { function }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}

/// Roundings of f32 that kernels may save in functions of bf16: results have a relative error of 2⁻¹⁰, a quarter of a rounding.
pub(super) fn brief(function: Function, dtype: DType) -> f64 {
    let activation =
        matches!(function, Function::GeluErf | Function::GeluTanh | Function::GeluQuick | Function::Silu | Function::Sigmoid);
    if activation && dtype == DType::BF16 { 2f64.powi(24 - 10) } else { 0.0 }
}
