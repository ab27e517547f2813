//! The product of matrix fragments, once they are matrices.

/// A is 16 x 16, B 16 x 8, C 16 x 8; smaller shapes use the upper left.
pub type Left = [[f32; 16]; 16];
pub type Right = [[f32; 8]; 16];

/// `c += a b` over the first `k` columns of A: for each element a chain of fused multiply-adds in the order of k.
pub fn accumulate(a: &Left, b: &Right, c: &mut Right, k: usize) {
    #[cfg(target_arch = "x86_64")]
    if super::lanes::wide::available() {
        // SAFETY: the processor has the features.
        unsafe { accumulate_wide(a, b, c, k) };
        return;
    }
    accumulate_any(a, b, c, k);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn accumulate_wide(a: &Left, b: &Right, c: &mut Right, k: usize) {
    accumulate_any(a, b, c, k);
}

#[inline(always)]
fn accumulate_any(a: &Left, b: &Right, c: &mut Right, k: usize) {
    // Two rows at a time: two chains keep the multipliers busy.
    for (a, c) in a.chunks_exact(2).zip(c.chunks_exact_mut(2)) {
        let (mut low, mut high) = (c[0], c[1]);
        for ((&x, &y), b) in a[0].iter().zip(&a[1]).zip(b).take(k) {
            for column in 0..8 {
                low[column] = x.mul_add(b[column], low[column]);
                high[column] = y.mul_add(b[column], high[column]);
            }
        }
        (c[0], c[1]) = (low, high);
    }
}
