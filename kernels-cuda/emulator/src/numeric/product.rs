//! The product of matrix fragments.
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
    multiply_any(shape, a, b, c, d);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_wide(shape: MmaShape, a: &[&Lanes], b: &[&Lanes], c: &[&Lanes], d: &mut [Lanes; 4]) {
    multiply_any(shape, a, b, c, d);
}

#[inline(always)]
fn multiply_any(shape: MmaShape, a: &[&Lanes], b: &[&Lanes], c: &[&Lanes], d: &mut [Lanes; 4]) {
    let mut left = [[0.0; 16]; 16];
    let mut right = [[0.0; 8]; 16];
    let mut sums = [[0.0; 8]; 16];
    unpack_left(shape.input, a, &mut left);
    unpack_right(shape.input, b, &mut right);
    unpack_sums(shape.half_sums, c, &mut sums);
    accumulate(&left, &right, &mut sums, shape.k);
    pack_sums(shape.half_sums, &sums, d);
}

/// The elements of a register: two, or one and a zero.
#[inline(always)]
fn elements(input: MmaInput, bits: u64) -> (f32, f32) {
    match input {
        MmaInput::F16 => (from_f16(bits & 0xffff), from_f16(bits >> 16 & 0xffff)),
        MmaInput::Bf16 => (from_bf16(bits & 0xffff), from_bf16(bits >> 16 & 0xffff)),
        MmaInput::Tf32 => (from_tf32(bits), 0.0),
    }
}

/// Odd registers are 8 rows further down, each two registers one block further right.
#[inline(always)]
fn unpack_left(input: MmaInput, a: &[&Lanes], left: &mut Left) {
    for (n, lanes) in a.iter().enumerate() {
        for (row, four) in lanes.chunks_exact(4).enumerate() {
            let row = &mut left[row + 8 * (n % 2)];
            for (t, &bits) in four.iter().enumerate() {
                let (low, high) = elements(input, bits);
                match input {
                    MmaInput::Tf32 => row[t + 4 * (n / 2)] = low,
                    _ => (row[2 * t + 8 * (n / 2)], row[2 * t + 8 * (n / 2) + 1]) = (low, high),
                }
            }
        }
    }
}

/// Each register is one block further down.
#[inline(always)]
fn unpack_right(input: MmaInput, b: &[&Lanes], right: &mut Right) {
    for (n, lanes) in b.iter().enumerate() {
        for (column, four) in lanes.chunks_exact(4).enumerate() {
            for (t, &bits) in four.iter().enumerate() {
                let (low, high) = elements(input, bits);
                match input {
                    MmaInput::Tf32 => right[t + 4 * n][column] = low,
                    _ => (right[2 * t + 8 * n][column], right[2 * t + 8 * n + 1][column]) = (low, high),
                }
            }
        }
    }
}

/// In f32, two registers share a block: one has the even columns, one the odd ones.
#[inline(always)]
fn unpack_sums(half: bool, c: &[&Lanes], sums: &mut Right) {
    for (n, lanes) in c.iter().enumerate() {
        for (row, four) in lanes.chunks_exact(4).enumerate() {
            for (t, &bits) in four.iter().enumerate() {
                match half {
                    true => (sums[row + 8 * n][2 * t], sums[row + 8 * n][2 * t + 1]) = elements(MmaInput::F16, bits),
                    false => sums[row + 8 * (n / 2)][2 * t + n % 2] = f32::from_bits(bits as u32),
                }
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
    // Four rows at a time: independent chains keep the multipliers busy.
    for (a, c) in a.chunks_exact(4).zip(c.chunks_exact_mut(4)) {
        let mut sums = [c[0], c[1], c[2], c[3]];
        for (k, b) in b.iter().enumerate().take(k) {
            for (a, sums) in a.iter().zip(&mut sums) {
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = a[k].mul_add(*b, *sum);
                }
            }
        }
        c.copy_from_slice(&sums);
    }
}
