//! Products of bf16 without a detour over f32: where the machine multiplies pairs of bf16 and adds both products to an f32 (AVX512-BF16,
//! `vdpbf16ps`), rows and panels hold two neighbouring k in a word, and a step of the [product](super::product) takes both.
//!
//! Twice the multiply-adds of f32 a step from half the bytes. (On a Zen 5 core the instruction has twice the arithmetic of f32's; on some of
//! Intel's cores it is the slower one.) Sums are f32, of other grouping than those of the other levels, and numbers below 2⁻¹²⁶ count as 0.

use std::arch::x86_64::{
    __cpuid, __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
};

use half::bf16;

use super::{
    Cpu, amx,
    panels::Weight,
    product::{LDA, Rows, Tile, blocks},
    simd::{Kernel, Level, Simd},
    strided::Strided,
    transpose::{self, SIDE},
};

/// Whether products of bf16 are made of pairs.
pub(super) fn wanted(cpu: &Cpu) -> bool {
    matches!(cpu.level, Level::Avx512Bf16 | Level::Amx)
}

/// Whether the instruction is faster than multiply-adds of f32: twice, as measured, on AMD's cores from Zen 4 on; half as fast on Intel's with AMX, which
/// a virtual machine may hide. A rule, not a measurement at the start: a busy neighbour would decide which bits come out.
pub(super) fn pay() -> bool {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

/// Words of a row of `k` elements, in gathered rows and panels: whole tiles of AMX, of which the last is filled up with zeros.
pub(super) fn words(level: Level, k: usize) -> usize {
    let words = k.div_ceil(2);
    if level == Level::Amx { words.next_multiple_of(amx::DEPTH) } else { words }
}

/// Two vectors as 32 bf16, `low` before `high`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn round(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 512 bits, and all bits are valid.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// `sum + a·b` for pairs in words.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn multiply_add(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
    // SAFETY: as above.
    unsafe { _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b)) }
}

/// Rows of bf16 as words of two.
pub(super) struct Pairs(pub Strided<bf16>);

impl Rows for Pairs {
    const PAIRS: bool = true;

    fn enter<K: Kernel>(level: Level, kernel: K) -> K::Output {
        level.run_widest(kernel)
    }

    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, first: usize, count: usize, steps: usize, dst: *mut f32) {
        let step = self.0.step;
        for (k0, kc, dst) in blocks(steps, count, dst) {
            let low = 2 * k0;
            let len = (2 * (k0 + kc)).min(self.0.len) - low;
            // SAFETY: rows and columns lie in the layout; `dst` is valid by the caller's word.
            unsafe {
                // A transposed operand, as weight gradients have it.
                if step != 1 && self.0.side_by_side() {
                    let src = self.0.base.get().add(self.0.offset(first) + low * step).cast::<u16>();
                    for r in (0..count).step_by(SIDE) {
                        let rows = SIDE.min(count - r);
                        for i in (0..kc).step_by(SIDE) {
                            let lines = len.saturating_sub(2 * i).min(2 * SIDE);
                            let to = (dst.add(r * LDA + i), LDA, SIDE.min(kc - i));
                            transpose::pairs_of_rows((src.add(r + 2 * i * step), step), (lines, rows), to);
                        }
                    }
                    continue;
                }
                for r in 0..count {
                    let src = self.0.base.get().add(self.0.offset(first + r) + low * step);
                    let dst = dst.add(r * LDA).cast::<bf16>();
                    if step == 1 {
                        dst.copy_from_nonoverlapping(src, len);
                    } else {
                        (0..len).for_each(|i| dst.add(i).write(*src.add(i * step)));
                    }
                    dst.add(len).write_bytes(0, 2 * kc - len);
                }
            }
        }
    }
}

/// The `columns` of a panel of a weight from `src` on, as [`super::panels::pack_panels`] does, in words of two k. What is not written is 0 already.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack<T>(weight: &Weight<'_, T>, dense: bool, src: *const u16, columns: usize, dst: *mut f32) {
    const WIDTH: usize = 2 * SIDE;
    let k = weight.offsets.len();
    // SAFETY: the caller's word.
    unsafe {
        for j in (0..columns).step_by(SIDE) {
            let (src, columns, dst) = (src.add(j * weight.stride), SIDE.min(columns - j), dst.add(j));
            if weight.stride == 1 {
                for (i, pair) in weight.offsets.chunks(2).enumerate() {
                    let odd = pair.get(1).map(|&offset| src.add(offset));
                    transpose::interleave(src.add(pair[0]), odd, columns, dst.add(i * WIDTH));
                }
            } else if dense {
                for k0 in (0..k).step_by(WIDTH) {
                    let elements = WIDTH.min(k - k0);
                    let from = (src.add(weight.offsets[k0]), weight.stride);
                    transpose::pairs_in_rows(from, (columns, elements), (dst.add(k0 / 2 * WIDTH), WIDTH, SIDE));
                }
            } else {
                for c in 0..columns {
                    for (kk, offset) in weight.offsets.iter().enumerate() {
                        let word = dst.add(kk / 2 * WIDTH + c).cast::<u16>();
                        word.add(kk % 2).write(*src.add(c * weight.stride + offset));
                    }
                }
            }
        }
    }
}

/// The tile of [`super::product`], over pairs.
///
/// # Safety
/// As [`super::product::tile_rows`], with words of pairs for f32; the machine must have [`Level::Avx512Bf16`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn tile_rows(tile: Tile) {
    // SAFETY: passed on from the caller.
    unsafe { choose::<false>(tile) }
}

/// The tile of [`super::product::tile_columns`], over pairs.
///
/// # Safety
/// As there, with words of pairs for f32; the machine must have [`Level::Avx512Bf16`].
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn tile_columns(tile: Tile) {
    // SAFETY: passed on from the caller.
    unsafe { choose::<true>(tile) }
}

/// The tile for the number of rows.
///
/// # Safety
/// As [`tile_rows`], or with `COLUMNS` as [`tile_columns`].
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn choose<const COLUMNS: bool>(tile: Tile) {
    macro_rules! cases {
        ($($n:literal)*) => {
            // SAFETY: passed on from the caller.
            unsafe {
                match tile.rows {
                    $($n => rows::<$n, COLUMNS>(tile),)*
                    rows => debug_assert!(rows == 0, "a tile has at most 14 rows"),
                }
            }
        };
    }
    cases!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// # Safety
/// As [`choose`].
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn rows<const ROWS: usize, const COLUMNS: bool>(Tile { kc, a, b, c, ldc, add, .. }: Tile) {
    // SAFETY: all bits are a vector of pairs.
    let pairs = |bits: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(bits) };
    let mut sums: [[__m512; 2]; ROWS] = [[_mm512_setzero_ps(); 2]; ROWS];
    // SAFETY: passed on from the caller.
    unsafe {
        for k in 0..kc {
            let b0 = pairs(_mm512_loadu_si512(b.add(k * 32).cast()));
            let b1 = pairs(_mm512_loadu_si512(b.add(k * 32 + 16).cast()));
            for (r, sum) in sums.iter_mut().enumerate() {
                let at = if COLUMNS { k * LDA + r } else { r * LDA + k };
                let x = pairs(_mm512_set1_epi32(a.add(at).cast::<i32>().read()));
                *sum = [_mm512_dpbf16_ps(sum[0], x, b0), _mm512_dpbf16_ps(sum[1], x, b1)];
            }
        }
        for (r, row) in sums.into_iter().enumerate() {
            for (v, sum) in row.into_iter().enumerate() {
                let at = c.add(r * ldc + v * 16);
                _mm512_storeu_ps(at, if add { _mm512_add_ps(_mm512_loadu_ps(at), sum) } else { sum });
            }
        }
    }
}
