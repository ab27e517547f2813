//! Depthwise convolution of bf16 in [pairs](crate::cpu::pairs), for kernels three wide: two rows of taps at a time.
//!
//! A row of taps is a time and a height of the kernel. Those that lie in the video are taken two by two, the last one, if it is left alone, beside
//! zeros: 27 taps are 15 multiply-adds. A word of two rows is what unpacking makes of two vectors, so the sums' channels are in that order: within
//! each eight the first four in one vector, the others in a second.

use std::{any::Any, arch::x86_64::*};

use half::bf16;

use super::{Plan, block_columns};
use crate::{
    Element,
    cpu::{
        Cpu,
        pairs::{multiply_add, round},
        simd::Level,
    },
};

/// Channels of a block: a cache line of bf16, and two vectors of sums.
pub(super) const CHANNELS: usize = 32;

/// Output rows, columns and whole blocks of channels of a batch element, at all times.
pub(super) struct Task<'a> {
    /// One that is [served](serve).
    pub plan: &'a Plan<bf16>,
    pub batch: usize,
    pub rows: (usize, usize),
    pub columns: (usize, usize),
    pub channels: (usize, usize),
}

/// The plan, if its blocks are better off in pairs. Not where there are AMX's tiles: on those processors the instruction is half as fast as the
/// multiply-add of f32.
pub(super) fn serve<'a, T: Element>(plan: &'a Plan<T>, cpu: &Cpu) -> Option<&'a Plan<bf16>> {
    let wanted = cpu.level == Level::Avx512Bf16 && plan.blocked && plan.kernel[2] == 3;
    if wanted { (plan as &dyn Any).downcast_ref() } else { None }
}

/// Where a row of taps begins in the video, under the first column of a block, and in the weight.
type Row = (*const bf16, *const bf16);

impl Task<'_> {
    /// # Safety
    /// The plan's operands have these rows, columns and channels, and the task writes them alone; the machine must have the instructions.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub unsafe fn run(&self) {
        let [_, times, _, width, _] = self.plan.out_size;
        let most = block_columns(width);
        for h in self.rows.0..self.rows.1 {
            let mut w = self.columns.0;
            while w < self.columns.1 {
                let left = self.columns.1 - w;
                let across = if left >= most { most } else { [4, 1][usize::from(left < 4)] };
                for t in 0..times {
                    for c in (self.channels.0..self.channels.1).step_by(CHANNELS) {
                        // SAFETY: the caller's word.
                        unsafe {
                            match across {
                                8 => self.block::<8>([t, h, w], c),
                                7 => self.block::<7>([t, h, w], c),
                                4 => self.block::<4>([t, h, w], c),
                                _ => self.block::<1>([t, h, w], c),
                            }
                        }
                    }
                }
                w += across;
            }
        }
    }

    /// Columns `w..w + N` of a block of channels at a time and height.
    ///
    /// # Safety
    /// They lie in the output, and at most one column of the video under them lies outside it on either side.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn block<const N: usize>(&self, [t, h, w]: [usize; 3], c: usize) {
        let p = self.plan;
        let ([kt, kh, _], [_, nt, nh, nw, nc]) = (p.kernel, p.out_size);
        // Where the block's first column would be, be it padding.
        let corner =
            p.x.get().wrapping_add(self.batch * p.strides[0] + w * p.strides[3] + c).wrapping_sub(p.padding[2] * p.strides[3]);
        // SAFETY: rows of taps outside the video are skipped; the rest is the caller's word.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); 2]; N];
            if let Some(bias) = p.bias {
                let (low, high) = (_mm512_loadu_ps(bias.get().add(c)), _mm512_loadu_ps(bias.get().add(c + 16)));
                sums = [[_mm512_shuffle_f32x4::<0x88>(low, high), _mm512_shuffle_f32x4::<0xDD>(low, high)]; N];
            }
            let mut alone: Option<Row> = None;
            for i in 0..kt {
                let Some(time) = (t + i).checked_sub(p.padding[0]).filter(|&time| time < p.size[1]) else { continue };
                for j in 0..kh {
                    let Some(height) = (h + j).checked_sub(p.padding[1]).filter(|&height| height < p.size[2]) else { continue };
                    let x = corner.wrapping_add(time * p.strides[1] + height * p.strides[2]).cast_const();
                    let row = (x, p.given.get().add((i * kh + j) * 3 * nc + c).cast_const());
                    match alone.take() {
                        Some(other) => self.add::<N, true>(&mut sums, w, other, row),
                        None => alone = Some(row),
                    }
                }
            }
            if let Some(row) = alone {
                self.add::<N, false>(&mut sums, w, row, row);
            }
            let in_order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
            for (n, mut y) in sums.into_iter().enumerate() {
                if let Some((residual, s)) = p.residual {
                    let at = self.batch * s[0] + t * s[1] + h * s[2] + (w + n) * s[3] + c;
                    // A bf16 is the upper half of an f32.
                    let words = unpack(_mm512_setzero_si512(), load(residual.get().add(at)));
                    y = [0, 1].map(
                        #[inline(always)]
                        |i| _mm512_add_ps(y[i], _mm512_castsi512_ps(words[i])),
                    );
                }
                let at = (((self.batch * nt + t) * nh + h) * nw + w + n) * nc + c;
                _mm512_storeu_si512(p.out.get().add(at).cast(), _mm512_permutexvar_epi64(in_order, round(y[0], y[1])));
            }
        }
    }

    /// Adds what two rows of taps give, or the first alone, to columns from `w` on.
    ///
    /// # Safety
    /// As [`Self::block`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn add<const N: usize, const BOTH: bool>(&self, sums: &mut [[__m512; 2]; N], w: usize, first: Row, second: Row) {
        let p = self.plan;
        let (column, tap) = (p.strides[3], p.out_size[4]);
        // Whether the first and the last column of the video under the block are padding, which is left out, not multiplied: 0 times an infinite
        // weight is no number.
        let (before, after) = (w < p.padding[2], w + N + 1 >= p.size[3] + p.padding[2]);
        // SAFETY: the caller's word.
        unsafe {
            let mut weights = [[_mm512_setzero_si512(); 2]; 3];
            for (k, weights) in weights.iter_mut().enumerate() {
                let other = if BOTH { load(second.1.add(k * tap)) } else { _mm512_setzero_si512() };
                *weights = unpack(load(first.1.add(k * tap)), other);
            }
            for n in 0..N + 2 {
                if n == 0 && before || n == N + 1 && after {
                    continue;
                }
                let other = if BOTH { load(second.0.wrapping_add(n * column)) } else { _mm512_setzero_si512() };
                let x = unpack(load(first.0.wrapping_add(n * column)), other);
                for (k, weights) in weights.iter().enumerate() {
                    if let Some(sums) = sums.get_mut(n.wrapping_sub(k)) {
                        sums[0] = multiply_add(sums[0], x[0], weights[0]);
                        sums[1] = multiply_add(sums[1], x[1], weights[1]);
                    }
                }
            }
        }
    }
}

/// # Safety
/// [`CHANNELS`] elements must be valid for reads.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(p: *const bf16) -> __m512i {
    // SAFETY: the caller's word.
    unsafe { _mm512_loadu_si512(p.cast()) }
}

/// Words of two, of the first four of each eight, and of the others.
#[inline]
#[target_feature(enable = "avx512bw")]
fn unpack(first: __m512i, second: __m512i) -> [__m512i; 2] {
    [_mm512_unpacklo_epi16(first, second), _mm512_unpackhi_epi16(first, second)]
}
