use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Kernel, Simd, avx2};

/// 512-bit vectors of x86-64.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// Runs a kernel with these instructions enabled.
///
/// # Safety
/// The machine must have them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi1,bmi2")]
pub(super) unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// A mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    ((1u32 << n) - 1) as __mmask16
}

/// Sixteen rows of sixteen words, transposed: words of a pair of rows, of four rows, then quarters of a vector change places.
///
/// # Safety
/// The machine must have AVX-512F.
#[inline(always)]
pub(in crate::cpu) unsafe fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: passed on from the caller.
    unsafe {
        // Word 4·L + c of rows 4·g .. 4·g + 3 is quarter L of `fours[g][c]`.
        let mut fours = [[_mm512_setzero_si512(); 4]; 4];
        for (four, x) in fours.iter_mut().zip(rows.as_chunks::<4>().0) {
            let (low, high) = (_mm512_unpacklo_epi32(x[0], x[1]), _mm512_unpackhi_epi32(x[0], x[1]));
            let (low2, high2) = (_mm512_unpacklo_epi32(x[2], x[3]), _mm512_unpackhi_epi32(x[2], x[3]));
            *four = [
                _mm512_unpacklo_epi64(low, low2),
                _mm512_unpackhi_epi64(low, low2),
                _mm512_unpacklo_epi64(high, high2),
                _mm512_unpackhi_epi64(high, high2),
            ];
        }
        let mut out = rows;
        for c in 0..4 {
            const EVEN: i32 = 0x88;
            const ODD: i32 = 0xDD;
            let [a, b, x, y] = [fours[0][c], fours[1][c], fours[2][c], fours[3][c]];
            let (ab, xy) = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(x, y));
            out[c] = _mm512_shuffle_i32x4::<EVEN>(ab, xy);
            out[8 + c] = _mm512_shuffle_i32x4::<ODD>(ab, xy);
            let (ab, xy) = (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(x, y));
            out[4 + c] = _mm512_shuffle_i32x4::<EVEN>(ab, xy);
            out[12 + c] = _mm512_shuffle_i32x4::<ODD>(ab, xy);
        }
        out
    }
}

/// f32 whose upper halves are the bf16 that they round to.
///
/// # Safety
/// The machine must have AVX-512F.
#[inline(always)]
unsafe fn rounded(x: __m512) -> __m512i {
    // SAFETY: passed on from the caller.
    unsafe {
        // Not vcvtneps2bf16: it takes numbers below 2⁻¹²⁶ for 0.
        let bits = _mm512_castps_si512(x);
        let even = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(1 << 16));
        let below = _mm512_add_epi32(bits, _mm512_set1_epi32(0x8000));
        let rounded = _mm512_mask_add_epi32(below, even, bits, _mm512_set1_epi32(0x7FFF));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000))
    }
}

// SAFETY: every function is a few intrinsics of the instruction set that the trait's contract asks for.
#[allow(clippy::undocumented_unsafe_blocks, reason = "each block is the trait's contract, passed on")]
unsafe impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const MR: usize = 14;

    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        unsafe { enter(kernel) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))) }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, x: __m512) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(x)))) }
    }
    #[inline(always)]
    unsafe fn load_bf16_first(p: *const bf16, n: usize) -> __m512 {
        unsafe {
            let halves = _mm256_maskz_loadu_epi16(first(n), p.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_first(p: *mut bf16, x: __m512, n: usize) {
        unsafe {
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(x)));
            _mm256_mask_storeu_epi16(p.cast(), first(n), halves);
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_two(p: *const bf16) -> [__m512; 2] {
        // The lower and the upper of each word.
        unsafe {
            let words = _mm512_loadu_si512(p.cast());
            let upper = _mm512_and_si512(words, _mm512_set1_epi32(0xFFFF_0000u32 as i32));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(upper)]
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_two(p: *mut bf16, [lower, upper]: [__m512; 2]) {
        unsafe {
            let lower = _mm512_srli_epi32::<16>(rounded(lower));
            _mm512_storeu_si512(p.cast(), _mm512_mask_blend_epi16(0xAAAA_AAAA, lower, rounded(upper)));
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut f16, x: __m512) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn minus_abs(a: __m512) -> __m512 {
        unsafe { _mm512_or_ps(a, _mm512_set1_ps(-0.0)) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(first(n), p) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f32, x: Self::V) {
        unsafe { _mm512_stream_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn fence() {
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, x: __m512, n: usize) {
        unsafe { _mm512_mask_storeu_ps(p, first(n), x) }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn power(biased: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(biased))) }
    }
    #[inline(always)]
    unsafe fn scale(p: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(p, n) }
    }
    #[inline(always)]
    unsafe fn reciprocal(a: __m512) -> __m512 {
        unsafe { _mm512_rcp14_ps(a) }
    }
    #[inline(always)]
    unsafe fn frexp(a: __m512) -> (__m512, __m512) {
        unsafe { (_mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_ZERO>(a), _mm512_getexp_ps(a)) }
    }
    #[inline(always)]
    unsafe fn select_lt(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
    }
    #[inline(always)]
    unsafe fn select_nan(a: __m512, x: __m512, y: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), y, x) }
    }
    #[inline(always)]
    unsafe fn sum_each(x: [__m512; 4]) -> [f32; 4] {
        unsafe {
            let mut folded = [_mm256_setzero_ps(); 4];
            for (half, x) in folded.iter_mut().zip(x) {
                *half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            }
            avx2::sum_each(folded)
        }
    }
    #[inline(always)]
    unsafe fn transpose(rows: [__m512; 16]) -> [__m512; 16] {
        // Arrays are cast whole: the closure of a `map` would be a function without these instructions, called for each row.
        unsafe {
            let words = transpose(std::mem::transmute::<[__m512; 16], [__m512i; 16]>(rows));
            std::mem::transmute::<[__m512i; 16], [__m512; 16]>(words)
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_later(p: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn apart([mut a, mut b]: [*const f32; 2]) -> [*const f32; 2] {
        // No instruction; both are said to be changed.
        unsafe { std::arch::asm!("/* {} {} */", inout(reg) a, inout(reg) b, options(pure, readonly, nostack, preserves_flags)) };
        [a, b]
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    unsafe fn max_lane(a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
}
