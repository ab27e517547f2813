//! The product of matrix fragments: of `mma.sync`, and the rows of a warp of `wgmma`.
//!
//! A register of a fragment is a block of 8 rows: lane `l` holds its share of row `l / 4`, so that the lanes one after the other are the
//! block in row-major order. B is held by columns, hence a block of its transpose.
//!
//! A sum is a chain of fused multiply-adds in f32 in the order of k. The ISA leaves order and rounding open; hardware keeps a few bits less
//! within one instruction, so results agree within the usual bound for f32 sums, not bit for bit.

use super::format::{F16, from_bf16, from_f16, from_tf32};
use crate::program::{Lanes, MmaInput, MmaShape};

/// 16 x 16, of which smaller shapes use the left part.
type Left = [[f32; 16]; 16];
/// B is 16 x 8, C 16 x 8.
type Right = [[f32; 8]; 16];

/// `d = a b + c`, fragments register by register.
pub fn multiply(shape: MmaShape, a: &[&Lanes], b: &[&Lanes], c: &[&Lanes], d: &mut [Lanes; 4]) {
    #[cfg(target_arch = "x86_64")]
    if super::lanes::wide::available() {
        // SAFETY: the processor has the features.
        unsafe { multiply_wide(shape, a, b, c, d) };
        return;
    }
    multiply_by(accumulate, shape, a, b, c, d);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_wide(shape: MmaShape, a: &[&Lanes], b: &[&Lanes], c: &[&Lanes], d: &mut [Lanes; 4]) {
    multiply_by(|a, b, c, k| accumulate_wide(a, b, c, k), shape, a, b, c, d);
}

/// By hand: the compiler does not find the vectors of [`accumulate`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn accumulate_wide(a: &Left, b: &Right, c: &mut Right, k: usize) {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps};
    // Eight rows at a time: independent chains keep the multipliers busy.
    for (a, c) in a.chunks_exact(8).zip(c.chunks_exact_mut(8)) {
        // SAFETY: a row of C is eight numbers.
        let mut sums: [_; 8] = std::array::from_fn(|row| unsafe { _mm256_loadu_ps(c[row].as_ptr()) });
        for (k, b) in b.iter().enumerate().take(k) {
            // SAFETY: a row of B is eight numbers.
            let b = unsafe { _mm256_loadu_ps(b.as_ptr()) };
            for (sum, a) in sums.iter_mut().zip(a) {
                *sum = _mm256_fmadd_ps(_mm256_set1_ps(a[k]), b, *sum);
            }
        }
        for (sum, c) in sums.into_iter().zip(c) {
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(c.as_mut_ptr(), sum) };
        }
    }
}

#[inline(always)]
fn multiply_by(
    accumulate: impl Fn(&Left, &Right, &mut Right, usize),
    shape: MmaShape,
    a: &[&Lanes],
    b: &[&Lanes],
    c: &[&Lanes],
    d: &mut [Lanes; 4],
) {
    let mut left = [[0.0; 16]; 16];
    let mut right = [[0.0; 8]; 16];
    let mut sums = [[0.0; 8]; 16];
    unpack_left(shape.input, a, &mut left);
    unpack_right(shape.input, b, &mut right);
    unpack_sums(shape.half_sums, c, &mut sums);
    accumulate(&left, &right, &mut sums, shape.k);
    pack_sums(shape.half_sums, &sums, d);
}

/// The bits of a bf16 or f16.
pub type Half = u16;
/// Sixteen elements of depth.
pub type Line = [f32; 16];

/// Sixteen rows of A out of its registers.
pub fn left(input: MmaInput, a: [&Lanes; 4]) -> Vec<Line> {
    let mut left = [[0.0; 16]; 16];
    unpack_left(input, &a, &mut left);
    left.to_vec()
}

/// Lines of elements as numbers.
pub fn widen(input: MmaInput, lines: &[[Half; 16]]) -> Vec<Line> {
    let number = |bits: u16| match input {
        MmaInput::F16 => from_f16(u64::from(bits)),
        _ => from_bf16(u64::from(bits)),
    };
    lines.iter().map(|line| line.map(number)).collect()
}

/// `d = a b + d`, or without what `d` was: 16 rows of A, the columns of B one after the other, eight of them in each four registers.
pub fn accumulate_columns(a: &[Line], b: &[Line], adds: bool, d: &[u32], registers: &mut [Lanes]) {
    let mut left = [[0.0; 16]; 16];
    left.iter_mut().zip(a).for_each(|(to, from)| *to = *from);
    for (columns, slots) in b.chunks_exact(8).zip(d.chunks_exact(4)) {
        let mut right = [[0.0; 8]; 16];
        for (column, line) in columns.iter().enumerate() {
            line.iter().zip(&mut right).for_each(|(value, row)| row[column] = *value);
        }
        let mut sums = [[0.0; 8]; 16];
        if adds {
            let old: [&Lanes; 4] = std::array::from_fn(|n| &registers[slots[n] as usize]);
            unpack_sums(false, &old, &mut sums);
        }
        accumulate_fast(&left, &right, &mut sums);
        let mut new = [[0; 32]; 4];
        pack_sums(false, &sums, &mut new);
        slots.iter().zip(new).for_each(|(&slot, new)| registers[slot as usize] = new);
    }
}

/// The whole depth, with vectors where the processor has them.
fn accumulate_fast(a: &Left, b: &Right, c: &mut Right) {
    #[cfg(target_arch = "x86_64")]
    if super::lanes::wide::available() {
        // SAFETY: the processor has the features.
        unsafe { accumulate_wide(a, b, c, 16) };
        return;
    }
    accumulate(a, b, c, 16);
}

/// The elements of each lane: lower and upper, or one and nothing. Loops without branches, which become vectors.
#[inline(always)]
fn elements(input: MmaInput, bits: &Lanes) -> [[f32; 32]; 2] {
    match input {
        MmaInput::F16 => [each(bits, |b| from_f16(b & 0xffff)), each(bits, |b| from_f16(b >> 16 & 0xffff))],
        MmaInput::Bf16 => [each(bits, from_bf16), each(bits, |b| f32::from_bits(b as u32 & 0xffff_0000))],
        MmaInput::Tf32 => [each(bits, from_tf32), [0.0; 32]],
    }
}

#[inline(always)]
fn each(bits: &Lanes, f: impl Fn(u64) -> f32) -> [f32; 32] {
    let mut all = [0.0; 32];
    for (value, &bits) in all.iter_mut().zip(bits) {
        *value = f(bits);
    }
    all
}

/// Odd registers are 8 rows further down, each two registers one block further right.
#[inline(always)]
fn unpack_left(input: MmaInput, a: &[&Lanes], left: &mut Left) {
    for (n, bits) in a.iter().enumerate() {
        let [low, high] = elements(input, bits);
        for lane in 0..32 {
            let (row, t) = (&mut left[lane / 4 + 8 * (n % 2)], lane % 4);
            match input {
                MmaInput::Tf32 => row[t + 4 * (n / 2)] = low[lane],
                _ => (row[2 * t + 8 * (n / 2)], row[2 * t + 8 * (n / 2) + 1]) = (low[lane], high[lane]),
            }
        }
    }
}

/// Each register is one block further down.
#[inline(always)]
fn unpack_right(input: MmaInput, b: &[&Lanes], right: &mut Right) {
    for (n, bits) in b.iter().enumerate() {
        let [low, high] = elements(input, bits);
        for lane in 0..32 {
            let (column, t) = (lane / 4, lane % 4);
            match input {
                MmaInput::Tf32 => right[t + 4 * n][column] = low[lane],
                _ => (right[2 * t + 8 * n][column], right[2 * t + 8 * n + 1][column]) = (low[lane], high[lane]),
            }
        }
    }
}

/// In f32, two registers share a block: one has the even columns, one the odd ones.
#[inline(always)]
fn unpack_sums(half: bool, c: &[&Lanes], sums: &mut Right) {
    for (n, bits) in c.iter().enumerate() {
        if half {
            let [low, high] = elements(MmaInput::F16, bits);
            for lane in 0..32 {
                let (row, t) = (&mut sums[lane / 4 + 8 * n], lane % 4);
                (row[2 * t], row[2 * t + 1]) = (low[lane], high[lane]);
            }
        } else {
            for (lane, &bits) in bits.iter().enumerate() {
                sums[lane / 4 + 8 * (n / 2)][2 * (lane % 4) + n % 2] = f32::from_bits(bits as u32);
            }
        }
    }
}

#[inline(always)]
fn pack_sums(half: bool, sums: &Right, d: &mut [Lanes; 4]) {
    for (n, lanes) in d.iter_mut().take(if half { 2 } else { 4 }).enumerate() {
        for (lane, bits) in lanes.iter_mut().enumerate() {
            let (row, t) = (lane / 4, lane % 4);
            *bits = match half {
                true => narrow(sums[row + 8 * n][2 * t]) | narrow(sums[row + 8 * n][2 * t + 1]) << 16,
                false => sums[row + 8 * (n / 2)][2 * t + n % 2].to_bits().into(),
            };
        }
    }
}

fn narrow(value: f32) -> u64 {
    u64::from(F16.nearest(f64::from(value)))
}

#[inline(always)]
fn accumulate(a: &Left, b: &Right, c: &mut Right, k: usize) {
    for (a, c) in a.iter().zip(c) {
        for (&a, b) in a.iter().zip(b).take(k) {
            for (c, &b) in c.iter_mut().zip(b) {
                *c = a.mul_add(b, *c);
            }
        }
    }
}
