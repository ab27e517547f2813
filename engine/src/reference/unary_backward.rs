//! `gradient · f′(x)`, and the derivatives themselves in double precision.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::{
    Array, operand,
    unary::{erfc, function},
};
use crate::{Function, Result, ops::unary_backward::UnaryBackward};

pub fn run(op: &UnaryBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let data = x.data.iter().zip(&gradient.data).map(|(&x, g)| g * derivative(op.function, x)).collect();
    Ok(vec![Array { shape: x.shape, data }])
}

/// `f′(x)`.
pub(super) fn derivative(f: Function, x: f64) -> f64 {
    // d/dx x·σ(u(x)) = σ(u) + x·σ(u)·σ(−u)·u′; σ(−u) is 1 − σ(u) without cancellation.
    let gated = |x: f64, u: f64, slope: f64| {
        let s = function(Function::Sigmoid, u);
        let rise = s * function(Function::Sigmoid, -u);
        // The rise vanishes faster than x and the slope grow.
        s + if rise == 0.0 { 0.0 } else { x * rise * slope }
    };
    match f {
        Function::Relu if x.is_nan() => x,
        Function::Relu => f64::from(x > 0.0),
        Function::GeluErf if x.is_infinite() => f64::from(x > 0.0),
        Function::GeluErf => 0.5 * erfc(-x * FRAC_1_SQRT_2) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
        Function::GeluTanh => {
            let c = 2.0 * (2.0 / PI).sqrt();
            gated(x, c * (x + 0.044715 * x * x * x), c * (1.0 + 3.0 * 0.044715 * x * x))
        }
        Function::GeluQuick => gated(x, 1.702 * x, 1.702),
        Function::Sigmoid => function(Function::Sigmoid, x) * function(Function::Sigmoid, -x),
        Function::Tanh => 4.0 * function(Function::Sigmoid, 2.0 * x) * function(Function::Sigmoid, -2.0 * x),
        Function::Silu => gated(x, x, 1.0),
        Function::Exp => x.exp(),
        Function::Log => 1.0 / x,
        Function::Sqrt => 0.5 / x.sqrt(),
        Function::Neg => -1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of order 4 with step h are off by h⁴·f⁗/30 and by rounding ε/h: both below 1e-11 here.
    #[test]
    fn derivatives_are_those_of_the_functions() {
        for f in Function::ALL {
            for i in 0..60 {
                let x = 0.05 + 0.1 * f64::from(i) - if matches!(f, Function::Log | Function::Sqrt) { 0.0 } else { 3.0 };
                let h = 1e-3 * if x.abs() < 0.2 { 0.05 } else { 1.0 };
                let at = |d: f64| function(f, x + d * h);
                let slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * h);
                let expected = derivative(f, x);
                // The fourth derivative of √ and log grows near 0 beyond what the step allows for.
                let allowed = 1e-9 * (1.0 + expected.abs().powi(2));
                assert!((slope - expected).abs() < allowed, "{f} at {x}: {slope}, expected {expected}");
            }
        }
    }
}
