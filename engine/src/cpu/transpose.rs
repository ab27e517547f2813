//! Matrices of words across, by 16 x 16 in registers of AVX-512: what rows hold side by side, panels and gathered rows want one after the other.

use std::arch::x86_64::*;

use super::simd::avx512::transpose;

/// Words of a block's side.
pub(super) const SIDE: usize = 16;

/// A mask of the first `n` of 16 words.
fn first(n: usize) -> __mmask16 {
    debug_assert!(n <= SIDE);
    ((1u32 << n) - 1) as __mmask16
}

/// `dst[c·dst_stride + r] = src[r·src_stride + c]` for `rows` and `columns` of up to 16; the rest of the first `width` of each row of `dst` is 0.
///
/// # Safety
/// The source must be valid for reads of `rows · columns`, `dst` for writes of `columns · width`; the machine must have AVX-512 (F, BW).
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn words(
    (src, src_stride): (*const f32, usize),
    (rows, columns): (usize, usize),
    (dst, dst_stride, width): (*mut f32, usize, usize),
) {
    let mut block = [_mm512_setzero_si512(); SIDE];
    for (r, row) in block.iter_mut().enumerate().take(rows) {
        // SAFETY: the caller's word.
        *row = unsafe { _mm512_maskz_loadu_epi32(first(columns), src.add(r * src_stride).cast()) };
    }
    // SAFETY: the caller's word.
    unsafe { store(transpose(block), columns, (dst, dst_stride, width)) }
}

/// As [`words`], of rows of `elements` (up to 32) bf16, of which two are a word.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pairs_in_rows(
    (src, src_stride): (*const u16, usize),
    (rows, elements): (usize, usize),
    to: (*mut f32, usize, usize),
) {
    debug_assert!(elements <= 2 * SIDE);
    let mask = ((1u64 << elements) - 1) as __mmask32;
    let mut block = [_mm512_setzero_si512(); SIDE];
    for (r, row) in block.iter_mut().enumerate().take(rows) {
        // SAFETY: the caller's word.
        *row = unsafe { _mm512_maskz_loadu_epi16(mask, src.add(r * src_stride).cast()) };
    }
    // SAFETY: the caller's word.
    unsafe { store(transpose(block), elements.div_ceil(2), to) }
}

/// As [`words`], of `rows` (up to 32) rows of `columns` bf16, of which those of an even row and of the next are words.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pairs_of_rows(
    (src, src_stride): (*const u16, usize),
    (rows, columns): (usize, usize),
    to: (*mut f32, usize, usize),
) {
    debug_assert!(rows <= 2 * SIDE);
    let mut block = [_mm512_setzero_si512(); SIDE];
    for (i, words) in block.iter_mut().enumerate().take(rows.div_ceil(2)) {
        // SAFETY: the caller's word.
        unsafe {
            let even = src.add(2 * i * src_stride);
            *words = interleaved(even, (2 * i + 1 < rows).then(|| even.add(src_stride)), columns);
        }
    }
    // SAFETY: the caller's word.
    unsafe { store(transpose(block), columns, to) }
}

/// Words of the elements of two rows of up to 16, or of one and zeros, and zeros beyond the columns.
///
/// # Safety
/// Both must be valid for reads of `columns`, `dst` for a write of 16; the machine must have AVX-512 (F, BW).
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn interleave(even: *const u16, odd: Option<*const u16>, columns: usize, dst: *mut f32) {
    // SAFETY: the caller's word.
    unsafe { _mm512_storeu_si512(dst.cast(), interleaved(even, odd, columns)) }
}

/// # Safety
/// As [`interleave`].
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn interleaved(even: *const u16, odd: Option<*const u16>, columns: usize) -> __m512i {
    let mask = __mmask32::from(first(columns));
    // SAFETY: the caller's word; what is masked is not touched.
    let load = |p: *const u16| unsafe { _mm512_cvtepu16_epi32(_mm512_castsi512_si256(_mm512_maskz_loadu_epi16(mask, p.cast()))) };
    match odd {
        Some(odd) => _mm512_or_si512(load(even), _mm512_slli_epi32::<16>(load(odd))),
        None => load(even),
    }
}

/// # Safety
/// As [`words`].
#[target_feature(enable = "avx512f")]
unsafe fn store(block: [__m512i; SIDE], rows: usize, (dst, stride, width): (*mut f32, usize, usize)) {
    for (r, row) in block.into_iter().enumerate().take(rows) {
        // SAFETY: the caller's word.
        unsafe { _mm512_mask_storeu_epi32(dst.add(r * stride).cast(), first(width), row) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
    }

    /// Every size of a block, against loops; what lies beyond keeps its value, or is 0 within the width.
    #[test]
    fn blocks_of_all_sizes_are_turned() {
        if !here() {
            println!("skipped: no AVX-512");
            return;
        }
        let elements: Vec<u16> = (1..=32 * 40).collect();
        let floats: Vec<f32> = elements.iter().map(|&x| x.into()).collect();
        let word = |low: u16, high: u16| f32::from_bits(u32::from(low) | u32::from(high) << 16).to_bits();
        for rows in 0..=SIDE {
            for columns in 0..=SIDE {
                let check =
                    |what: &str, run: &dyn Fn(*mut f32), [lines, filled]: [usize; 2], at: &dyn Fn(usize, usize) -> u32| {
                        let mut dst = [f32::from_bits(7); SIDE * 18];
                        run(dst.as_mut_ptr());
                        for (i, x) in dst.iter().enumerate() {
                            let (line, w) = (i / 18, i % 18);
                            let expected = match w {
                                _ if line >= lines || w >= SIDE => 7,
                                w if w < filled => at(line, w),
                                _ => 0,
                            };
                            assert_eq!(x.to_bits(), expected, "{what}: {rows} rows, {columns} columns, at {line}, {w}");
                        }
                    };
                // SAFETY: the machine has the instructions, and the arrays hold the blocks.
                unsafe {
                    check(
                        "words",
                        &|dst| words((floats.as_ptr(), 40), (rows, columns), (dst, 18, SIDE)),
                        [columns, rows],
                        &|c, r| floats[r * 40 + c].to_bits(),
                    );
                    for odd in 0..2 {
                        let many = (2 * columns).saturating_sub(odd);
                        check(
                            "pairs in rows",
                            &|dst| pairs_in_rows((elements.as_ptr(), 40), (rows, many), (dst, 18, SIDE)),
                            [many.div_ceil(2), rows],
                            &|c, r| {
                                word(elements[r * 40 + 2 * c], if 2 * c + 1 < many { elements[r * 40 + 2 * c + 1] } else { 0 })
                            },
                        );
                        let many = (2 * rows).saturating_sub(odd);
                        check(
                            "pairs of rows",
                            &|dst| pairs_of_rows((elements.as_ptr(), 40), (many, columns), (dst, 18, SIDE)),
                            [columns, many.div_ceil(2)],
                            &|c, r| {
                                word(elements[2 * r * 40 + c], if 2 * r + 1 < many { elements[(2 * r + 1) * 40 + c] } else { 0 })
                            },
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_written_as_wide_as_asked() {
        if !here() {
            println!("skipped: no AVX-512");
            return;
        }
        let (src, mut dst) = ([1f32; SIDE * SIDE], [9f32; SIDE * SIDE]);
        // SAFETY: as above.
        unsafe { words((src.as_ptr(), SIDE), (3, SIDE), (dst.as_mut_ptr(), SIDE, 5)) };
        assert_eq!(dst[..8], [1.0, 1.0, 1.0, 0.0, 0.0, 9.0, 9.0, 9.0]);
    }
}
