//! Functions of which only the digits of bf16 are kept: fewer operations, for a relative error below 2⁻¹⁰, a quarter of bf16's rounding.
//! (Of 512 bits a Zen 4 core multiplies and adds once a cycle, and the functions are bound by that.)
#![allow(clippy::excessive_precision, reason = "coefficients as they were fitted")]

use std::f32::consts::LOG2_E;

use super::{
    Simd,
    math::{self, polynomial},
};
use crate::Function;

/// `2ˣ` with a polynomial of smallest relative error, 2⁻¹³, else as [`math::exp2_of`].
///
/// # Safety
/// As [`math::exp2_of`].
#[inline(always)]
unsafe fn exp2<S: Simd>(x: S::V) -> S::V {
    const FRACTION: [f32; 4] = [5.517_167e-2, 2.426_111_4e-1, 6.932_61e-1, 9.999_281e-1];
    // SAFETY: passed on from the caller.
    unsafe { math::exp2_of::<S>(&FRACTION, x) }
}

/// `eˣ` of what is not above 0.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp_nonpositive<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { exp2::<S>(S::mul(x, S::splat(LOG2_E))) }
}

/// `1 / (1 + 2ᵗ)`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn logistic2<S: Simd>(t: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        // Up to 2¹²⁸ and a bit, which is ∞, so that the result is 0.
        let power = exp2::<S>(S::min(S::splat(128.25), t));
        S::reciprocal(S::add(S::splat(1.0), power))
    }
}

/// `1 / (1 + e⁻ˣ)`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { logistic2::<S>(S::mul(x, S::splat(-LOG2_E))) }
}

/// `x·Φ(x)`, where `Φ(−a)` is 2 to the power of one polynomial for `log₂ Φ(−a)`, off by 8e-4 at most up to −130, and `Φ(a)` is 1 less that.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn gelu_erf<S: Simd>(x: S::V) -> S::V {
    // Of −a. Beyond 13.3 the polynomial falls on, to −∞ at −∞.
    const TAIL: [f32; 8] = [
        3.113_409_4e-7,
        1.747_339_2e-5,
        4.128_179_7e-4,
        5.410_495_8e-3,
        4.422_217_5e-2,
        -4.732_972e-1,
        1.142_687_6,
        -1.000_809_1,
    ];
    // SAFETY: passed on from the caller.
    unsafe {
        let below = exp2::<S>(polynomial::<S>(&TAIL, S::minus_abs(x)));
        S::mul(x, S::select_lt(S::splat(0.0), x, S::sub(S::splat(1.0), below), below))
    }
}

/// The derivative of `x·Φ(x)`: for `−a` `e^(−a²/2)` times a polynomial, of smallest error, 2⁻¹², in the product; for `a` 1 less that.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn gelu_erf_slope<S: Simd>(x: S::V) -> S::V {
    // Of −a.
    const SLOPE: [f32; 5] = [9.806_125e-3, 7.054_224e-2, 2.141_965_4e-1, 7.903_655e-1, 4.997_464_8e-1];
    // SAFETY: passed on from the caller.
    unsafe {
        // Beyond −20 the density is 0, which the polynomial is not to be too large for.
        let minus = S::max(S::splat(-20.0), S::minus_abs(x));
        let density = exp2::<S>(S::mul(S::mul(minus, minus), S::splat(-0.5 * LOG2_E)));
        let below = S::mul(polynomial::<S>(&SLOPE, minus), density);
        S::select_lt(S::splat(0.0), x, S::sub(S::splat(1.0), below), below)
    }
}

/// Any [`Function`] of a vector.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn apply<S: Simd>(function: Function, x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        match function {
            Function::GeluErf => gelu_erf::<S>(x),
            Function::GeluTanh => {
                // ½(1 + tanh u) = σ(2u)
                const LINEAR: f32 = -1.595_769_1 * LOG2_E;
                let cubic = S::fma(S::mul(x, x), S::splat(0.044_715 * LINEAR), S::splat(LINEAR));
                S::mul(x, logistic2::<S>(S::mul(x, cubic)))
            }
            Function::GeluQuick => S::mul(x, logistic2::<S>(S::mul(x, S::splat(-1.702 * LOG2_E)))),
            Function::Silu => S::mul(x, sigmoid::<S>(x)),
            Function::Sigmoid => sigmoid::<S>(x),
            Function::Relu | Function::Tanh | Function::Exp | Function::Log | Function::Sqrt | Function::Neg => {
                math::apply::<S>(function, x)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Kernel, Level},
        *,
    };
    use crate::{Device, Result, Tensor, ops};

    /// A function of a number, or its derivative.
    struct Brief {
        function: Function,
        slope: bool,
        x: f32,
    }

    impl Kernel for Brief {
        type Output = f32;

        #[inline(always)]
        fn run<S: Simd>(self) -> f32 {
            // SAFETY: whoever runs a kernel has the instructions.
            unsafe {
                let (x, mut y) = (S::splat(self.x), [0.0]);
                let result = if self.slope { gelu_erf_slope::<S>(x) } else { apply::<S>(self.function, x) };
                S::store_first(y.as_mut_ptr(), result, 1);
                y[0]
            }
        }
    }

    const DIGITS: f64 = 1.0 / 1024.0;
    const BRIEF: [Function; 5] = [Function::GeluErf, Function::GeluTanh, Function::GeluQuick, Function::Silu, Function::Sigmoid];

    fn levels() -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(|level| level.available())
    }

    fn numbers() -> Vec<f32> {
        (-13_000..6_000).map(|i| i as f32 * 1e-3).collect()
    }

    /// What the reference makes of `xs` in f64.
    fn exact(xs: &[f32], of: impl Fn(&Tensor) -> Result<Tensor>) -> Vec<f64> {
        let xs: Vec<f64> = xs.iter().copied().map(f64::from).collect();
        let result = Tensor::from_slice(&Device::reference(), &[xs.len()], &xs).and_then(|x| of(&x)).and_then(|y| y.to_f64_vec());
        result.unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn digits_of_bf16_in_the_tails_as_well() {
        let xs = numbers();
        for function in BRIEF {
            let expected = exact(&xs, |x| ops::unary::unary(function, x));
            for level in levels() {
                for (&x, &want) in xs.iter().zip(&expected) {
                    let got = f64::from(level.run(Brief { function, slope: false, x }));
                    // A level may have 0 for powers below 2⁻¹²⁵, and the argument is at most 13.
                    let tolerance = 2f64.powi(-121).max(DIGITS * want.abs());
                    assert!((got - want).abs() <= tolerance, "{level}: {function}({x}) = {got:e}, expected {want:e}");
                }
            }
        }
    }

    #[test]
    fn slope_of_gelu() {
        let xs = numbers();
        let one = |x: &Tensor| Tensor::from_slice(x.device(), &[x.elements()], &vec![1f64; x.elements()]);
        let expected = exact(&xs, |x| ops::unary_backward::unary_backward(Function::GeluErf, x, &one(x)?));
        for level in levels() {
            for (&x, &want) in xs.iter().zip(&expected) {
                let got = f64::from(level.run(Brief { function: Function::GeluErf, slope: true, x }));
                assert!((got - want).abs() <= DIGITS, "{level}: the slope at {x} is {got:e}, expected {want:e}");
            }
        }
    }

    #[test]
    fn ends_and_nan_as_the_reference() {
        let ends = [f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -1e30, 1e30];
        for function in BRIEF {
            let expected = exact(&ends, |x| ops::unary::unary(function, x));
            for level in levels() {
                for (&x, &want) in ends.iter().zip(&expected) {
                    let got = f64::from(level.run(Brief { function, slope: false, x }));
                    let same = got == want || got.is_nan() && want.is_nan() || (got - want).abs() <= DIGITS * want.abs();
                    assert!(same, "{level}: {function}({x}) = {got}, expected {want}");
                }
            }
        }
    }
}
