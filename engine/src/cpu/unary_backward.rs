//! Gradient of a function of each element.

use super::{
    Cpu,
    elementwise::{self, Elementwise},
    simd::{Simd, brief, math},
    with_float,
};
use crate::{Function, Result, Tensor, ops::unary_backward::UnaryBackward};

pub fn run(op: &UnaryBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x), Some(gradient)] = *inputs else { return Ok(()) };
    with_float!("unary_backward", x.dtype(), T => elementwise::run::<T, 2>(Slope(op.function), [x, gradient], &outputs[0], cpu))
}

/// `g·f′(x)` of `x` and `g`.
#[derive(Clone, Copy)]
struct Slope(Function);

impl Elementwise<2> for Slope {
    #[inline(always)]
    unsafe fn of<S: Simd, const BRIEF: bool>(self, [x, gradient]: [S::V; 2]) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { S::mul(gradient, derivative::<S, BRIEF>(self.0, x)) }
    }
}

/// `f′(x)`, with an error of a few roundings of its largest value, or, where it is brief, of 2⁻¹⁰.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn derivative<S: Simd, const BRIEF: bool>(function: Function, x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let one = S::splat(1.0);
        match function {
            Function::Relu => S::select_nan(x, x, S::select_lt(S::splat(0.0), x, one, S::splat(0.0))),
            Function::GeluErf if BRIEF => brief::gelu_erf_slope::<S>(x),
            Function::GeluErf => {
                // Φ + x·φ, where Φ is the function over its argument. Beyond 15 both are 0 or 1.
                let at = bounded::<S>(x, 15.0);
                let near = S::fma(at, S::splat(0.398_942_3), S::splat(0.5));
                let far = S::div(math::apply::<S>(Function::GeluErf, at), at);
                let square = S::mul(at, at);
                let cdf = S::select_lt(square, S::splat(1e-8), near, far);
                let density = math::exp_nonpositive::<S>(S::mul(square, S::splat(-0.5)));
                S::select_nan(x, x, S::fma(at, S::mul(density, S::splat(0.398_942_3)), cdf))
            }
            Function::GeluTanh => {
                let at = bounded::<S>(x, 90.0);
                let square = S::mul(at, at);
                let u2 = S::mul(S::mul(at, S::fma(square, S::splat(0.044_715), one)), S::splat(1.595_769));
                let slope = S::mul(S::fma(square, S::splat(3.0 * 0.044_715), one), S::splat(1.595_769));
                S::select_nan(x, x, gated::<S, BRIEF>(at, u2, slope))
            }
            Function::GeluQuick => {
                let at = bounded::<S>(x, 90.0);
                S::select_nan(x, x, gated::<S, BRIEF>(at, S::mul(at, S::splat(1.702)), S::splat(1.702)))
            }
            Function::Silu => {
                let at = bounded::<S>(x, 90.0);
                S::select_nan(x, x, gated::<S, BRIEF>(at, at, one))
            }
            Function::Sigmoid => {
                let s = if BRIEF { brief::sigmoid::<S>(x) } else { math::sigmoid::<S>(x) };
                S::mul(s, S::sub(one, s))
            }
            Function::Tanh => {
                let y = math::tanh::<S>(x);
                S::mul(S::sub(one, y), S::add(one, y))
            }
            Function::Exp => math::exp::<S>(x),
            Function::Log => S::div(one, x),
            Function::Sqrt => S::div(S::splat(0.5), S::sqrt(x)),
            Function::Neg => S::splat(-1.0),
        }
    }
}

/// `x` within `−most..=most`, so that no ∞ meets a 0. NaN becomes a number.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn bounded<S: Simd>(x: S::V, most: f32) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { S::max(S::min(x, S::splat(most)), S::splat(-most)) }
}

/// The derivative of `x·σ(u)` where `u` has the derivative `slope`: `σ + x·σ·(1 − σ)·slope`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn gated<S: Simd, const BRIEF: bool>(x: S::V, u: S::V, slope: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let s = if BRIEF { brief::sigmoid::<S>(u) } else { math::sigmoid::<S>(u) };
        let rise = S::mul(s, S::sub(S::splat(1.0), s));
        S::fma(S::mul(x, slope), rise, s)
    }
}
