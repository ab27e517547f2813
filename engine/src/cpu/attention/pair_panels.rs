//! Sequences of bf16 packed into panels of pairs, as [`crate::cpu::pairs`] multiplies them: 32 columns of words, a word being two neighbours
//! along the sum, the earlier in its low half.

use std::arch::x86_64::*;

use half::bf16;

use super::Sequence;
use crate::cpu::{product::KC, simd::avx512::transpose};

/// Columns of a panel.
pub(in crate::cpu) const PANEL: usize = 32;

/// Scores of f32 that a tile has at most, so that they stay in L1 between a product and the next: 32 KiB, where AMX's rows are many.
pub(in crate::cpu) const SCORES: usize = 8192;

/// The widest head that the kernels of pairs take: a row of it is one row of a gathered block.
pub(in crate::cpu) const WIDEST: usize = 2 * KC;

/// `count ≤ 32` elements at a step, zeros beyond.
///
/// # Safety
/// They must be valid for reads.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::cpu) unsafe fn load(p: *const bf16, step: usize, count: usize) -> __m512i {
    // SAFETY: passed on from the caller.
    unsafe {
        if step == 1 {
            let lanes = if count == 32 { !0 } else { (1u32 << count) - 1 };
            return _mm512_maskz_loadu_epi16(lanes, p.cast());
        }
        let mut x = [bf16::ZERO; 32];
        for (i, x) in x.iter_mut().enumerate().take(count) {
            *x = *p.add(i * step);
        }
        _mm512_loadu_si512(x.as_ptr().cast())
    }
}

/// Tokens `low..high` as columns, pairs along the channels: `[tokens/32][words][32]`, zeros beyond the last token and channel. `dst` is for token 0,
/// and `low` at the beginning of a panel; `words` are those of a token, as [`crate::cpu::pairs::words`] counts them.
///
/// # Safety
/// The tokens exist, and `dst` holds their panels.
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::cpu) unsafe fn pack_rows(x: &Sequence<bf16>, words: usize, (low, high): (usize, usize), dst: *mut f32) {
    // SAFETY: tokens and channels lie in the layout; the rest is the caller's word.
    unsafe {
        for first in (low..high.next_multiple_of(PANEL)).step_by(16) {
            let base = dst.cast::<i32>().add(first / PANEL * PANEL * words + first % PANEL);
            for word in (0..words).step_by(16) {
                let mut rows = [_mm512_setzero_si512(); 16];
                let channels = 32.min(x.width - 2 * word);
                for (r, row) in rows.iter_mut().enumerate().take(high.saturating_sub(first)) {
                    *row = load(x.base.get().add((first + r) * x.stride + 2 * word * x.step), x.step, channels);
                }
                let columns = transpose(rows);
                for (w, column) in columns.into_iter().enumerate().take(words - word) {
                    _mm512_storeu_si512(base.add((word + w) * PANEL).cast(), column);
                }
            }
        }
    }
}

/// Channels as columns, pairs along the tokens: `[D/32][words][32]`, zeros beyond the last channel. Of a block of `count` tokens from `low` on, with
/// zeros after them up to `filled` rows; a panel has `words` rows in `dst`.
///
/// # Safety
/// The tokens exist, and `dst` holds the panels.
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::cpu) unsafe fn pack_channels(
    x: &Sequence<bf16>,
    (low, count): (usize, usize),
    (filled, words): (usize, usize),
    dst: *mut f32,
) {
    // SAFETY: tokens and channels lie in the layout; the rest is the caller's word.
    unsafe {
        // Words of the channels 0 to 15, and of 16 to 31: channel c of one token, then of the next.
        let (first, second) = (in_turn(0, 32), in_turn(16, 32));
        for pair in 0..filled {
            let src = x.base.get().wrapping_add((low + 2 * pair) * x.stride);
            for (panel, channel) in (0..x.width).step_by(PANEL).enumerate() {
                let channels = PANEL.min(x.width - channel);
                let (mut a, mut b) = (_mm512_setzero_si512(), _mm512_setzero_si512());
                if 2 * pair < count {
                    a = load(src.add(channel * x.step), x.step, channels);
                }
                if 2 * pair + 1 < count {
                    b = load(src.add(x.stride + channel * x.step), x.step, channels);
                }
                let dst = dst.add((panel * words + pair) * PANEL);
                _mm512_storeu_si512(dst.cast(), _mm512_permutex2var_epi16(a, first, b));
                _mm512_storeu_si512(dst.add(16).cast(), _mm512_permutex2var_epi16(a, second, b));
            }
        }
    }
}

/// Rows of `count` tokens from `low` on, at a distance of `stride` words; zeros beyond an odd width.
///
/// # Safety
/// The tokens exist, and `dst` holds rows of their width rounded up to a panel's.
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::cpu) unsafe fn gather(x: &Sequence<bf16>, (low, count): (usize, usize), dst: *mut f32, stride: usize) {
    // SAFETY: passed on from the caller.
    unsafe {
        for r in 0..count {
            let src = x.base.get().add((low + r) * x.stride);
            for channel in (0..x.width).step_by(32) {
                let y = load(src.add(channel * x.step), x.step, 32.min(x.width - channel));
                _mm512_storeu_si512(dst.add(r * stride + channel / 2).cast(), y);
            }
        }
    }
}

/// Indices of the halves of two vectors in turn: `from`, `from + apart`, `from + 1`, and so on.
#[inline]
#[target_feature(enable = "avx512f")]
pub(in crate::cpu) fn in_turn(from: i32, apart: i32) -> __m512i {
    let low = _mm512_add_epi32(_mm512_set1_epi32(from), _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(apart));
    _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
}

/// `2ˣ`, by `2^⌊x⌋` and a polynomial of degree 5 on what is left, of relative error 1.4·2⁻²⁴; 0 for −∞, NaN for NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(in crate::cpu) fn exp2(x: __m512) -> __m512 {
    let r = _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
    let p = _mm512_set1_ps(1.877_576_7e-3);
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.989_34e-3));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.582_632e-2));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.401_536e-1));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931_531e-1));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999_999_94));
    _mm512_scalef_ps(p, x)
}

/// [`exp2`] for what is rounded to bf16, with a polynomial of degree 3, of relative error 2⁻¹³: a sixteenth of that rounding.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
pub(in crate::cpu) fn exp2_brief(x: __m512) -> __m512 {
    let r = _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
    let p = _mm512_set1_ps(7.802_452e-2);
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.260_671_8e-1));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.958_335e-1));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.999_252e-1));
    _mm512_scalef_ps(p, x)
}

/// A mask of the first `n` lanes, of 16 at most.
#[inline(always)]
pub(in crate::cpu) fn first(n: usize) -> __mmask16 {
    if n >= 16 { !0 } else { (1 << n) - 1 }
}

/// Rows of sums times `factor`, as bf16, for the first `width` of them.
///
/// # Safety
/// `sums` is valid for `width` rounded up to 16, `out` for `width`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(in crate::cpu) unsafe fn store(out: *mut bf16, sums: *const f32, width: usize, factor: f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        let factor = _mm512_set1_ps(factor);
        for c in (0..width).step_by(16) {
            let y = _mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_loadu_ps(sums.add(c)), factor));
            let y = std::mem::transmute::<__m256bh, __m256i>(y);
            _mm256_mask_storeu_epi16(out.add(c).cast(), first(width - c), y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Level;

    /// Sixteen at a time, and as briefly.
    #[target_feature(enable = "avx512f,avx512dq")]
    fn powers(x: [f32; 16]) -> [[f32; 16]; 2] {
        let mut y = [[0.0; 16]; 2];
        // SAFETY: all hold a vector.
        unsafe {
            let x = _mm512_loadu_ps(x.as_ptr());
            _mm512_storeu_ps(y[0].as_mut_ptr(), exp2(x));
            _mm512_storeu_ps(y[1].as_mut_ptr(), exp2_brief(x));
        }
        y
    }

    #[test]
    fn powers_of_two_have_the_digits_promised() {
        if !Level::Avx512Bf16.available() {
            return;
        }
        // SAFETY: the level is there.
        let powers = |x| unsafe { powers(x) };
        for first in (-130_000..2_000).step_by(16) {
            let x: [f32; 16] = std::array::from_fn(|i| (first + i as i32) as f32 * 0.000_97);
            let [precise, brief] = powers(x);
            for (i, x) in x.into_iter().enumerate() {
                let exact = f64::from(x).exp2();
                let error = |y: f32| (f64::from(y) - exact).abs() / exact;
                assert!(error(precise[i]) <= 3.0 * 2f64.powi(-24), "2^{x}: {:e}, expected {exact:e}", precise[i]);
                assert!(error(brief[i]) <= 2f64.powi(-13), "2^{x}: {:e}, expected {exact:e}", brief[i]);
            }
        }
        assert_eq!(powers([f32::NEG_INFINITY; 16]), [[0.0; 16]; 2]);
        assert_eq!(powers([-1e30; 16]), [[0.0; 16]; 2]);
        assert!(powers([f32::NAN; 16]).as_flattened().iter().all(|y| y.is_nan()));
    }
}
