//! Scalar functions over all 32 lanes.
//!
//! Inactive lanes are computed, too, and thrown away: that keeps the loops free of branches. Hence every function here must be total.
//!
//! On x86 each loop exists twice: as the crate is compiled, and with vectors of 256 bits and fused multiply-add, which is chosen while a
//! kernel is decoded. Without the latter, every lane of an `fma` would be a call of the C library.

use crate::program::{Comparison, Function1, Function2, Function3, Function4, Lanes};

#[inline(always)]
fn map_one(f: &impl Fn(u64) -> u64, a: &Lanes, d: &mut Lanes) {
    for lane in 0..32 {
        d[lane] = f(a[lane]);
    }
}

#[inline(always)]
fn map_two(f: &impl Fn(u64, u64) -> u64, a: &Lanes, b: &Lanes, d: &mut Lanes) {
    for lane in 0..32 {
        d[lane] = f(a[lane], b[lane]);
    }
}

#[inline(always)]
fn map_three(f: &impl Fn(u64, u64, u64) -> u64, a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) {
    for lane in 0..32 {
        d[lane] = f(a[lane], b[lane], c[lane]);
    }
}

#[inline(always)]
fn map_compare(f: &impl Fn(u64, u64) -> bool, a: &Lanes, b: &Lanes) -> (u32, u32) {
    let mut holds = [0u8; 32];
    for lane in 0..32 {
        holds[lane] = u8::from(f(a[lane], b[lane]));
    }
    let mask = pack(&holds);
    (mask, !mask)
}

/// Addresses as offsets from `origin`: which lanes of `mask` lie no further than `last`, the bits that their offsets have set, and the
/// offsets.
pub fn offsets(addresses: &Lanes, origin: u64, last: u64, mask: u32) -> (u32, u64, [u32; 32]) {
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: the processor has the features.
        return unsafe { wide::offsets(addresses, origin, last, mask) };
    }
    map_offsets(addresses, origin, last, mask)
}

#[inline(always)]
fn map_offsets(addresses: &Lanes, origin: u64, last: u64, mask: u32) -> (u32, u64, [u32; 32]) {
    let (mut offsets, mut holds, mut bits) = ([0; 32], [0u8; 32], 0);
    for lane in 0..32 {
        let offset = addresses[lane].wrapping_sub(origin);
        let within = u64::from(offset <= last) & u64::from(mask >> lane & 1);
        let offset = offset & within.wrapping_neg();
        bits |= offset;
        holds[lane] = within as u8;
        offsets[lane] = offset as u32;
    }
    (pack(&holds), bits, offsets)
}

#[inline(always)]
fn pack(holds: &[u8; 32]) -> u32 {
    holds.iter().enumerate().fold(0, |mask, (lane, &bit)| mask | u32::from(bit) << lane)
}

#[cfg(target_arch = "x86_64")]
pub mod wide {
    use super::{Lanes, map_compare, map_offsets, map_one, map_three, map_two};

    /// Whether the processor has what the functions of this module are compiled for.
    pub fn available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("bmi2")
    }

    #[target_feature(enable = "avx2,fma,bmi2")]
    pub fn one(f: &impl Fn(u64) -> u64, a: &Lanes, d: &mut Lanes) {
        map_one(f, a, d);
    }

    #[target_feature(enable = "avx2,fma,bmi2")]
    pub fn two(f: &impl Fn(u64, u64) -> u64, a: &Lanes, b: &Lanes, d: &mut Lanes) {
        map_two(f, a, b, d);
    }

    #[target_feature(enable = "avx2,fma,bmi2")]
    pub fn three(f: &impl Fn(u64, u64, u64) -> u64, a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) {
        map_three(f, a, b, c, d);
    }

    #[target_feature(enable = "avx2,fma,bmi2")]
    pub fn compare(f: &impl Fn(u64, u64) -> bool, a: &Lanes, b: &Lanes) -> (u32, u32) {
        map_compare(f, a, b)
    }

    #[target_feature(enable = "avx2,fma,bmi2")]
    pub fn offsets(addresses: &Lanes, origin: u64, last: u64, mask: u32) -> (u32, u64, [u32; 32]) {
        map_offsets(addresses, origin, last, mask)
    }
}

pub fn one(f: impl Fn(u64) -> u64 + Send + Sync + 'static) -> Function1 {
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: the processor has the features.
        return Box::new(move |a, d| unsafe { wide::one(&f, a, d) });
    }
    Box::new(move |a, d| map_one(&f, a, d))
}

pub fn two(f: impl Fn(u64, u64) -> u64 + Send + Sync + 'static) -> Function2 {
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: the processor has the features.
        return Box::new(move |a, b, d| unsafe { wide::two(&f, a, b, d) });
    }
    Box::new(move |a, b, d| map_two(&f, a, b, d))
}

pub fn three(f: impl Fn(u64, u64, u64) -> u64 + Send + Sync + 'static) -> Function3 {
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: the processor has the features.
        return Box::new(move |a, b, c, d| unsafe { wide::three(&f, a, b, c, d) });
    }
    Box::new(move |a, b, c, d| map_three(&f, a, b, c, d))
}

/// Rare, hence in one version.
pub fn four(f: impl Fn(u64, u64, u64, u64) -> u64 + Send + Sync + 'static) -> Function4 {
    Box::new(move |[a, b, c, e], d| {
        for lane in 0..32 {
            d[lane] = f(a[lane], b[lane], c[lane], e[lane]);
        }
    })
}

/// A comparison whose second result is the complement of the first.
pub fn compare(f: impl Fn(u64, u64) -> bool + Send + Sync + 'static) -> Comparison {
    #[cfg(target_arch = "x86_64")]
    if wide::available() {
        // SAFETY: the processor has the features.
        return Box::new(move |a, b| unsafe { wide::compare(&f, a, b) });
    }
    Box::new(move |a, b| map_compare(&f, a, b))
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
