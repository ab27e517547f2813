//! Scalar functions over all 32 lanes.
//!
//! Inactive lanes are computed, too, and thrown away: that keeps the loops free of branches. Hence every function here must be total.

use crate::program::{Comparison, Function1, Function2, Function3, Function4};

pub fn one(f: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Function1 {
    Box::new(move |a, d| {
        for (d, &a) in d.iter_mut().zip(a) {
            *d = f(a);
        }
    })
}

pub fn two(f: impl Fn(u64, u64) -> u64 + Send + Sync + 'static) -> Function2 {
    Box::new(move |a, b, d| {
        for lane in 0..32 {
            d[lane] = f(a[lane], b[lane]);
        }
    })
}

pub fn three(f: impl Fn(u64, u64, u64) -> u64 + Send + Sync + 'static) -> Function3 {
    Box::new(move |a, b, c, d| {
        for lane in 0..32 {
            d[lane] = f(a[lane], b[lane], c[lane]);
        }
    })
}

pub fn four(f: impl Fn(u64, u64, u64, u64) -> u64 + Send + Sync + 'static) -> Function4 {
    Box::new(move |[a, b, c, e], d| {
        for lane in 0..32 {
            d[lane] = f(a[lane], b[lane], c[lane], e[lane]);
        }
    })
}

/// A comparison whose second result is the complement of the first.
pub fn compare(f: impl Fn(u64, u64) -> bool + Send + Sync + 'static) -> Comparison {
    Box::new(move |a, b| {
        let mut mask = 0;
        for lane in 0..32 {
            mask |= u32::from(f(a[lane], b[lane])) << lane;
        }
        (mask, !mask)
    })
}

/// A comparison of two halves: the low ones and the high ones.
pub fn compare_pairs(f: impl Fn(u64, u64) -> bool + Send + Sync + 'static) -> Comparison {
    Box::new(move |a, b| {
        let (mut low, mut high) = (0, 0);
        for lane in 0..32 {
            low |= u32::from(f(a[lane] & 0xffff, b[lane] & 0xffff)) << lane;
            high |= u32::from(f(a[lane] >> 16 & 0xffff, b[lane] >> 16 & 0xffff)) << lane;
        }
        (low, high)
    })
}
