//! Elementary functions of vectors, accurate to a few units in the last place.
#![allow(clippy::excessive_precision, reason = "coefficients as they are published")]

use super::Simd;
use crate::Function;

/// `eˣ`: Cody and Waite reduction by ln 2 in two parts, polynomial of degree 6 on `[−½ln 2, ½ln 2]`. Relative error below 2⁻²³;
/// 0 below −87.33 (where results would be subnormal), ∞ above 88.72, NaN for NaN.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        // min and max give their second operand for NaN, so the clamped value is always a number.
        let clamped = S::max(S::min(x, S::splat(88.722_83)), S::splat(-87.336_55));
        let n = S::round(S::mul(clamped, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-0.693_359_4), clamped);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let p = S::splat(1.987_569_1e-4);
        let p = S::fma(p, r, S::splat(1.398_199_9e-3));
        let p = S::fma(p, r, S::splat(8.333_452e-3));
        let p = S::fma(p, r, S::splat(4.166_579_6e-2));
        let p = S::fma(p, r, S::splat(1.666_666_5e-1));
        let p = S::fma(p, r, S::splat(0.5));
        let p = S::add(S::fma(S::mul(p, r), r, r), S::splat(1.0));
        // 2ⁿ in two factors, because n reaches 128.
        let half = S::round(S::mul(n, S::splat(0.5)));
        let y = S::mul(S::mul(p, S::exp2_integer(half)), S::exp2_integer(S::sub(n, half)));
        let y = S::select_lt(S::splat(88.722_83), x, S::splat(f32::INFINITY), y);
        let y = S::select_lt(x, S::splat(-87.336_55), S::splat(0.0), y);
        S::select_nan(x, x, y)
    }
}

/// `eˣ` for `x ≤ 0`, as softmax needs it: no overflow to guard against. 0 below −87.33, so also for −∞; NaN gives 0.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp_nonpositive<S: Simd>(x: S::V) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let clamped = S::max(x, S::splat(-87.336_55));
        let n = S::round(S::mul(clamped, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-0.693_359_4), clamped);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let p = S::splat(1.987_569_1e-4);
        let p = S::fma(p, r, S::splat(1.398_199_9e-3));
        let p = S::fma(p, r, S::splat(8.333_452e-3));
        let p = S::fma(p, r, S::splat(4.166_579_6e-2));
        let p = S::fma(p, r, S::splat(1.666_666_5e-1));
        let p = S::fma(p, r, S::splat(0.5));
        let p = S::add(S::fma(S::mul(p, r), r, r), S::splat(1.0));
        let y = S::mul(p, S::exp2_integer(n));
        S::select_lt(S::splat(-87.336_55), x, y, S::splat(0.0))
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

/// Hyperbolic tangent: an odd polynomial below 0.625 (Cephes), `1 − 2/(e²ˣ + 1)` above, where nothing cancels.
///
/// # Safety
/// As [`Simd`].
/// `x·Φ(x)` with `Φ(x) = ½·erfc(−x/√2)` and the exponential fit of erfc of Numerical Recipes (section 6.2, `erfcc`): fractional error
/// below 1.2e-7 everywhere, so neither the tail nor the neighbourhood of 0 loses digits.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn gelu_erf<S: Simd>(x: S::V) -> S::V {
    const FIT: [f32; 9] = [
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    // SAFETY: passed on from the caller.
    unsafe {
        let z = S::mul(x, S::splat(std::f32::consts::FRAC_1_SQRT_2));
        let z = S::select_lt(z, S::splat(0.0), S::sub(S::splat(0.0), z), z);
        // Beyond 15 the tail is 0 anyway, and ∞² − ∞² would not be.
        let z = S::min(z, S::splat(15.0));
        let t = S::div(S::splat(1.0), S::fma(z, S::splat(0.5), S::splat(1.0)));
        let mut p = S::splat(0.170_872_77);
        for c in FIT {
            p = S::fma(p, t, S::splat(c));
        }
        let square = S::mul(z, z);
        let lost = S::fma(z, z, S::sub(S::splat(0.0), square));
        let erfc = S::mul(t, exp::<S>(S::sub(S::sub(p, square), lost)));
        let tail = S::mul(erfc, S::splat(0.5));
        let phi = S::select_lt(x, S::splat(0.0), tail, S::sub(S::splat(1.0), tail));
        S::mul(x, phi)
    }
}

/// Any [`Function`] of a vector.
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
