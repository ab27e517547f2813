//! Sums and products with their rounding error, and the rounding that keeps it.
//!
//! A result in f64 and the sign of what f64 lost decide every directed rounding to a narrower format. Rounding to odd folds both into
//! one f64: the last bit says "not exact", and a second rounding to at most 51 bits cannot go wrong.

/// `value + residual` rounded to odd; only the sign of the residual matters.
pub fn to_odd(value: f64, residual: f64) -> f64 {
    if residual == 0.0 || residual.is_nan() || !value.is_finite() {
        return value;
    }
    if value == 0.0 {
        return f64::from_bits(1).copysign(residual);
    }
    let bits = value.to_bits();
    if bits & 1 == 1 {
        return value;
    }
    let away = (residual > 0.0) == (value > 0.0);
    f64::from_bits(if away { bits + 1 } else { bits - 1 })
}

/// `a + b` and its error (Knuth).
pub fn sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let bb = s - a;
    (s, (a - (s - bb)) + (b - bb))
}

/// `a b + c` for operands of at most 26 bits, whose product is exact in f64.
pub fn fused(a: f64, b: f64, c: f64) -> f64 {
    let (s, e) = sum(a * b, c);
    to_odd(s, e)
}

pub fn quotient(a: f64, b: f64) -> f64 {
    let q = a / b;
    if !q.is_finite() || q == 0.0 {
        return q;
    }
    let rest = (-q).mul_add(b, a);
    to_odd(q, if b < 0.0 { -rest } else { rest })
}

pub fn square_root(a: f64) -> f64 {
    let s = a.sqrt();
    if !s.is_finite() || s == 0.0 {
        return s;
    }
    to_odd(s, (-s).mul_add(s, a))
}

/// An integer as f64, rounded to odd where 53 bits do not hold it.
pub fn integer(value: i128) -> f64 {
    let near = value as f64;
    let rest = value - near as i128;
    to_odd(near, rest as f64)
}
