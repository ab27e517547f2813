//! Depthwise convolution of f32 with kernels 3×3×3: columns of an output row at all times, a vector of channels after the other.
//!
//! Each vector of the video is loaded once for the columns and the three output times that meet it, whose sums are in registers. Time by time a block
//! loads it thrice, and from L2: pixels of 768 channels lie 3 KiB apart, so that they share a few sets of L1, which keeps nothing (an Intel server took a fifth
//! longer). For the same reason the weights of a vector are packed side by side.

use super::{Task, WINDOW};
use crate::{
    Element, Result, Tensor,
    cpu::{
        Shared,
        convert::{load, store},
        simd::Simd,
    },
};

/// Channels of a group of packed weights: those of the widest vector.
pub(super) const GROUP: usize = 16;
/// Weights of a channel.
const TAPS: usize = 27;
/// The most columns: sums of three times, the video above them and a weight are 31 registers; of 16, three columns.
const COLUMNS: usize = 7;
/// Vectors of channels ahead of which lines of the video's next row and of the output are asked for: both lie in L3.
const AHEAD: usize = 3;

/// `[3, 3, 3, C]` as `[C/16, 27, 16]`, without the channels that are left over.
pub(super) fn pack(weight: &Tensor) -> Result<Tensor> {
    let groups = weight.shape()[3] / GROUP;
    let whole = weight.narrow(3, 0, groups * GROUP)?;
    whole.split(3, &[groups, GROUP])?.permute(&[3, 0, 1, 2, 4])?.contiguous()
}

impl<T: Element> Task<'_, T> {
    /// Row `h` at all times, whole groups of channels.
    ///
    /// # Safety
    /// They lie in the output, `packed` holds their weights, and the plan is `blocked`, of a kernel 3×3×3 and a padding in time of 2 at most.
    #[inline(always)]
    pub unsafe fn row<S: Simd>(&self, packed: Shared<f32>, h: usize, channels: (usize, usize)) {
        let mut w = self.columns.0;
        while w < self.columns.1 {
            let left = self.columns.1 - w;
            // SAFETY: passed on from the caller.
            unsafe {
                // Eight are two times four.
                w += match left {
                    8 | 4..COLUMNS if S::MR >= 10 => self.columns_of_row::<S, 4>(packed, [h, w], channels),
                    COLUMNS.. if S::MR >= 10 => self.columns_of_row::<S, COLUMNS>(packed, [h, w], channels),
                    3.. => self.columns_of_row::<S, 3>(packed, [h, w], channels),
                    _ => self.columns_of_row::<S, 1>(packed, [h, w], channels),
                };
            }
        }
    }

    /// `N` columns from `w` on of row `h`, at all times; gives `N`.
    ///
    /// # Safety
    /// As [`Self::row`].
    #[inline(always)]
    unsafe fn columns_of_row<S: Simd, const N: usize>(
        &self,
        packed: Shared<f32>,
        [h, w]: [usize; 2],
        channels: (usize, usize),
    ) -> usize {
        let p = self.plan;
        let times = p.out_size[1];
        let (first, last) = (h.saturating_sub(p.padding[1]), (h + 3).saturating_sub(p.padding[1]).min(p.size[2]));
        // Where the first column would be, be it padding.
        let left = p.padding[2] * p.strides[3];
        let corner = p.x.get().wrapping_add(self.batch * p.strides[0] + w * p.strides[3]).wrapping_sub(left);
        for c in (channels.0..channels.1).step_by(S::LANES) {
            // SAFETY: rows of the video outside it are skipped; the rest is the caller's word.
            unsafe {
                let weights = packed.get().add(c / GROUP * TAPS * GROUP + c % GROUP);
                let bias = match p.bias {
                    Some(bias) => S::load(bias.get().add(c)),
                    None => S::splat(0.0),
                };
                // Of the output times on which a plane of the video is the last, the second and the first tap.
                let mut sums = [[bias; N]; 3];
                for plane in 0..times + 2 - p.padding[0] {
                    let rows = if plane < p.size[1] { first..last } else { 0..0 };
                    for hj in rows {
                        let row = corner.wrapping_add(plane * p.strides[1] + hj * p.strides[2] + c);
                        let weights = weights.add((hj + p.padding[1] - h) * 3 * GROUP);
                        self.add::<S, N>((row, hj + 1 == last), w, weights, &mut sums);
                    }
                    if let Some(t) = (plane + p.padding[0]).checked_sub(2) {
                        self.write::<S, N>([t, h, w, c], sums[0]);
                    }
                    sums = [sums[1], sums[2], [bias; N]];
                }
            }
        }
        N
    }

    /// Adds a row of the video, under columns from `w` on, to the sums of three times, by the weights of its height. Of the last row, which no other row of
    /// the output has met yet, it asks for channels ahead.
    ///
    /// # Safety
    /// The row's columns lie in the video, but for the first and the last where they are padding; `weights` are packed.
    #[inline(always)]
    unsafe fn add<S: Simd, const N: usize>(
        &self,
        (row, last): (*mut T, bool),
        w: usize,
        weights: *const f32,
        sums: &mut [[S::V; N]; 3],
    ) {
        let p = self.plan;
        let column = p.strides[3];
        let (before, after) = (w < p.padding[2], w + N + 1 >= p.size[3] + p.padding[2]);
        // SAFETY: columns outside the video are skipped; the rest is the caller's word.
        unsafe {
            let mut x = [S::splat(0.0); WINDOW];
            for (n, x) in x.iter_mut().enumerate().take(N + 2) {
                if !(n == 0 && before || n == N + 1 && after) {
                    *x = load::<S, T>(row.wrapping_add(n * column), 1, S::LANES);
                    if last {
                        S::prefetch_later(row.wrapping_add(n * column + AHEAD * S::LANES).cast());
                    }
                }
            }
            for (i, sums) in sums.iter_mut().rev().enumerate() {
                for k in 0..3 {
                    let weight = S::load(weights.add((i * 9 + k) * GROUP));
                    for (n, sum) in sums.iter_mut().enumerate() {
                        // Padding is left out, not multiplied: 0 times an infinite weight is no number.
                        if !(n + k == 0 && before || n + k == N + 1 && after) {
                            *sum = S::fma(x[n + k], weight, *sum);
                        }
                    }
                }
            }
        }
    }

    /// Writes sums, with their residual, and asks for the output's channels ahead.
    ///
    /// # Safety
    /// They lie in the output.
    #[inline(always)]
    unsafe fn write<S: Simd, const N: usize>(&self, [t, h, w, c]: [usize; 4], sums: [S::V; N]) {
        let p = self.plan;
        let [_, nt, nh, nw, nc] = p.out_size;
        // SAFETY: the caller's word.
        unsafe {
            let out = p.out.get().add((((self.batch * nt + t) * nh + h) * nw + w) * nc + c);
            for (n, sum) in sums.into_iter().enumerate() {
                let mut y = sum;
                if let Some((residual, s)) = p.residual {
                    let at = self.batch * s[0] + t * s[1] + h * s[2] + (w + n) * s[3] + c;
                    y = S::add(y, load::<S, T>(residual.get().add(at), 1, S::LANES));
                }
                store::<S, T>(out.add(n * nc), y, S::LANES);
                S::prefetch_later(out.wrapping_add(n * nc + AHEAD * S::LANES).cast());
            }
        }
    }
}
