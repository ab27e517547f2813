//! Elementary functions of vectors, accurate to a few units in the last place.
#![allow(clippy::excessive_precision, reason = "coefficients as they are published")]

use std::f32::consts::{LN_2, LOG2_E};

use super::{POWER, Simd};
use crate::Function;

/// The integer `n` nearest to `factor·x`, and `n +` [`POWER`].
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn nearest<S: Simd>(x: S::V, factor: f32) -> (S::V, S::V) {
    // SAFETY: passed on from the caller.
    unsafe {
        let biased = S::fma(x, S::splat(factor), S::splat(POWER));
        (S::sub(biased, S::splat(POWER)), biased)
    }
}

/// `eʳ` on `[−½ln 2, ½ln 2]`: `1 + r + r²·q(r)`, with `q` of degree 4 fitted for the smallest relative error, 3.1e-9.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn exp_reduced<S: Simd>(r: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let q = S::splat(1.381_453_9e-3);
        let q = S::fma(q, r, S::splat(8.368_745_3e-3));
        let q = S::fma(q, r, S::splat(4.166_839_1e-2));
        let q = S::fma(q, r, S::splat(1.666_652_0e-1));
        let q = S::fma(q, r, S::splat(4.999_999_3e-1));
        S::add(S::fma(S::mul(q, r), r, r), S::splat(1.0))
    }
}

/// `eˣ`: Cody and Waite reduction by ln 2 in two parts, [`exp_reduced`] on the rest. Relative error below 2⁻²³; possibly 0 below 2⁻¹²⁵, ∞
/// above 88.72, NaN for NaN.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { exp_nonpositive::<S>(S::min(S::splat(89.0), x)) }
}

/// [`exp`] of what is not above 89.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp_nonpositive<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        // max gives its second operand for NaN.
        let clamped = S::max(S::splat(-104.0), x);
        let (n, _) = nearest::<S>(clamped, LOG2_E);
        let r = S::fma(n, S::splat(-0.693_359_4), clamped);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        S::scale(exp_reduced::<S>(r), n)
    }
}

/// `2ˣ`: a polynomial of degree 6, of smallest relative error (2e-9) with a constant of 1. Relative error below 2⁻²³, else as [`exp2_of`]. Three operations
/// fewer than [`exp`], and nothing is lost to a reduction: softmax counts in powers of two.
///
/// # Safety
/// As [`exp2_of`].
#[inline(always)]
pub(crate) unsafe fn exp2<S: Simd>(x: S::V) -> S::V {
    const FRACTION: [f32; 7] = [1.535_336_2e-4, 1.339_887_5e-3, 9.618_436_9e-3, 5.550_332_4e-2, 2.402_264_8e-1, LN_2, 1.0];
    // SAFETY: passed on from the caller.
    unsafe { exp2_of::<S>(&FRACTION, x) }
}

/// `2ˣ`, by the polynomial of what is left of the nearest integer. Possibly 0 below 2⁻¹²⁵, ∞ from 2¹²⁸ on, NaN for NaN.
///
/// # Safety
/// As [`Simd`]; `x` is at most 129.
#[inline(always)]
pub(super) unsafe fn exp2_of<S: Simd>(fraction: &[f32], x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        // max gives its second operand for NaN.
        let x = S::max(S::splat(-150.0), x);
        let n = S::round(x);
        S::scale(polynomial::<S>(fraction, S::sub(x, n)), n)
    }
}

/// `ln x`: `x = 2ᵉ·m` with `m` in `[√½, √2]`, then `2·artanh(s)`, `s = (m−1)/(m+1)`, as an odd polynomial. −∞ at 0 (and for subnormal
/// numbers), NaN below.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn ln<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let (m, e) = S::frexp(x);
        let above = S::splat(std::f32::consts::SQRT_2);
        let e = S::select_lt(above, m, S::add(e, S::splat(1.0)), e);
        let m = S::select_lt(above, m, S::mul(m, S::splat(0.5)), m);
        let s = S::div(S::sub(m, S::splat(1.0)), S::add(m, S::splat(1.0)));
        let t = S::mul(s, s);
        let p = S::splat(2.0 / 11.0);
        let p = S::fma(p, t, S::splat(2.0 / 9.0));
        let p = S::fma(p, t, S::splat(2.0 / 7.0));
        let p = S::fma(p, t, S::splat(2.0 / 5.0));
        let p = S::fma(p, t, S::splat(2.0 / 3.0));
        let p = S::fma(p, t, S::splat(2.0));
        let y = S::fma(e, S::splat(-2.121_944_4e-4), S::mul(s, p));
        let y = S::fma(e, S::splat(0.693_359_4), y);
        let y = S::select_lt(x, S::splat(f32::INFINITY), y, x);
        let y = S::select_lt(x, S::splat(f32::MIN_POSITIVE), S::splat(f32::NEG_INFINITY), y);
        S::select_lt(x, S::splat(0.0), S::splat(f32::NAN), y)
    }
}

/// `1 / (1 + e⁻ˣ)`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let e = exp::<S>(S::sub(S::splat(0.0), x));
        S::div(S::splat(1.0), S::add(S::splat(1.0), e))
    }
}

/// A polynomial, the highest coefficient first.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn polynomial<S: Simd>(coefficients: &[f32], x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let (&highest, rest) = coefficients.split_first().unwrap_or((&0.0, &[]));
        let mut p = S::splat(highest);
        for &c in rest {
            p = S::fma(p, x, S::splat(c));
        }
        p
    }
}

/// `x·Φ(x)` as `max(x, 0) − a·Q(a)`, `a = |x|`, where `Q(a) = Φ(−a)` is `e^(−a²/2)` times a rational fit of Mills' ratio over √2π, of smallest
/// relative error (5e-9) on `[0, 13.3]`. All its terms are positive, so nothing cancels: neither the tail nor the neighbourhood of 0
/// loses digits. 0 below −13.27, where the result would be subnormal.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn gelu_erf<S: Simd>(x: S::V) -> S::V {
    // Of `exp_reduced`, for −2 times its argument.
    const HALF_POWER: [f32; 7] = [
        1.381_453_9e-3 / 64.0,
        -8.368_745_3e-3 / 32.0,
        4.166_839_1e-2 / 16.0,
        -1.666_652_0e-1 / 8.0,
        4.999_999_3e-1 / 4.0,
        -0.5,
        1.0,
    ];
    // Of −a.
    const ABOVE: [f32; 5] = [4.020_275_8e-3, -3.998_480_2e-2, 1.813_086_8e-1, -4.356_889_9e-1, 0.5];
    const BELOW: [f32; 6] = [-1.007_719_4e-2, 1.002_344_2e-1, -4.643_853_9e-1, 1.194_492_3, -1.669_262_9, 1.0];
    // SAFETY: passed on from the caller.
    unsafe {
        // −a. At the bound n is −127, and 2ⁿ the number whose bits are all 0.
        let minus = S::max(S::splat(-13.27), S::minus_abs(x));
        // a² to all digits: it is rounded only after n·ln 2 is taken from it. Halving is left to the coefficients.
        let (n, biased) = nearest::<S>(S::mul(minus, minus), -0.5 * LOG2_E);
        let r = S::fma(minus, minus, S::mul(n, S::splat(2.0 * 0.693_359_4)));
        let r = S::fma(n, S::splat(2.0 * -2.121_944_4e-4), r);
        let power = S::mul(polynomial::<S>(&HALF_POWER, r), S::power(biased));
        // −a, but −∞ at −∞, where the function is not defined (−∞ · 0).
        let factor = S::min(x, minus);
        // The division beside the exponential, not behind it.
        let ratio = S::div(polynomial::<S>(&ABOVE, minus), polynomial::<S>(&BELOW, minus));
        S::fma(S::mul(factor, power), ratio, S::max(S::splat(0.0), x))
    }
}

/// Hyperbolic tangent: an odd polynomial below 0.625 (Cephes), `1 − 2/(e²ˣ + 1)` above, where nothing cancels.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let t = S::mul(x, x);
        let p = S::splat(-5.704_988_7e-3);
        let p = S::fma(p, t, S::splat(2.063_908_9e-2));
        let p = S::fma(p, t, S::splat(-5.373_971e-2));
        let p = S::fma(p, t, S::splat(1.333_144_2e-1));
        let p = S::fma(p, t, S::splat(-3.333_328_2e-1));
        let small = S::fma(S::mul(p, t), x, x);
        let e = exp::<S>(S::mul(x, S::splat(2.0)));
        let large = S::sub(S::splat(1.0), S::div(S::splat(2.0), S::add(e, S::splat(1.0))));
        S::select_lt(t, S::splat(0.625 * 0.625), small, large)
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
            // max gives its second operand for NaN.
            Function::Relu => S::max(S::splat(0.0), x),
            Function::GeluErf => gelu_erf::<S>(x),
            Function::GeluTanh => {
                // ½(1 + tanh u) = σ(2u)
                let cubic = S::fma(S::mul(x, x), S::splat(0.044_715), S::splat(1.0));
                let u2 = S::mul(S::mul(x, cubic), S::splat(1.595_769_1));
                S::mul(x, sigmoid::<S>(u2))
            }
            Function::GeluQuick => S::mul(x, sigmoid::<S>(S::mul(x, S::splat(1.702)))),
            Function::Sigmoid => sigmoid::<S>(x),
            Function::Tanh => tanh::<S>(x),
            Function::Silu => S::mul(x, sigmoid::<S>(x)),
            Function::Exp => exp::<S>(x),
            Function::Log => ln::<S>(x),
            Function::Sqrt => S::sqrt(x),
            Function::Neg => S::sub(S::splat(-0.0), x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Kernel, Level},
        *,
    };
    use crate::{Device, Tensor, ops};

    enum Of {
        Gelu(f32),
        Exp2(f32),
    }

    impl Kernel for Of {
        type Output = f32;

        #[inline(always)]
        fn run<S: Simd>(self) -> f32 {
            // SAFETY: whoever runs a kernel has the instructions.
            unsafe {
                let mut result = [0.0];
                let y = match self {
                    Of::Gelu(x) => gelu_erf::<S>(S::splat(x)),
                    Of::Exp2(x) => exp2::<S>(S::splat(x)),
                };
                S::store_first(result.as_mut_ptr(), y, 1);
                result[0]
            }
        }
    }

    fn levels() -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(|level| level.available())
    }

    #[test]
    fn powers_of_two_have_the_digits_promised() {
        for level in levels() {
            for i in -125_000..127_000 {
                let x = i as f32 * 1e-3;
                let (got, want) = (f64::from(level.run(Of::Exp2(x))), f64::from(x).exp2());
                assert!((got - want).abs() <= 2f64.powi(-23) * want, "{level}: 2^{x} = {got:e}, expected {want:e}");
            }
            assert_eq!([f32::NEG_INFINITY, -1e30, -151.0].map(|x| level.run(Of::Exp2(x))), [0.0; 3], "{level}");
            assert!(level.run(Of::Exp2(f32::NAN)).is_nan(), "{level}");
        }
    }

    /// Relative to the result, which falls to 1e-37: the tolerance of the operation's samples is relative to the argument.
    #[test]
    fn gelu_has_all_digits_of_its_tail() {
        let xs: Vec<f32> = (-12_900..6_000).map(|i| i as f32 * 1e-3).collect();
        let exact: Vec<f64> = xs.iter().copied().map(f64::from).collect();
        let expected = Tensor::from_slice(&Device::reference(), &[exact.len()], &exact)
            .and_then(|x| ops::unary::unary(Function::GeluErf, &x))
            .and_then(|y| y.to_f64_vec())
            .unwrap_or_else(|error| panic!("{error}"));
        for level in levels() {
            for (&x, &want) in xs.iter().zip(&expected) {
                let got = f64::from(level.run(Of::Gelu(x)));
                // The reduction is off by half a rounding of a²/2 ≤ 84 where there is no fused multiply-add, else everything by a few roundings.
                let roundings = if level == Level::Portable { 8.0 + f64::from(x * x) } else { 8.0 };
                assert!(
                    (got - want).abs() <= roundings * 2f64.powi(-24) * want.abs(),
                    "{level}: gelu({x}) = {got:e}, expected {want:e}"
                );
            }
            assert_eq!(level.run(Of::Gelu(-1e4)), 0.0);
            assert_eq!(level.run(Of::Gelu(f32::INFINITY)), f32::INFINITY);
            assert!(level.run(Of::Gelu(f32::NAN)).is_nan() && level.run(Of::Gelu(f32::NEG_INFINITY)).is_nan());
        }
    }
}
