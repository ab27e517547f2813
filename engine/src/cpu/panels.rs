//! Weights in the order in which products read them: panels of `NR` columns, `[N/NR][K][NR]`, of f32, or of words of two bf16 where the machine
//! multiplies [pairs](super::pairs). Packing is part of every training step, so it goes by vectors where a weight's rows or columns are dense.

use super::{
    Cpu, Shared,
    convert::widen,
    product::panel_width,
    simd::{Kernel, Simd},
};
use crate::{DType, Element, HostBuffer};

/// Steps of K that are packed together: the side of a block that is turned in registers, and a cache line of f32. Columns 4 KiB apart push each
/// other out of the cache, so a line is read to its end while it is there.
const BLOCK: usize = 16;

/// A weight `[N, K]`, wherever it lies: element `(j, k)` is at `j·stride + offsets[k]`.
pub(super) struct Weight<'a, T> {
    pub base: Shared<T>,
    pub stride: usize,
    pub offsets: &'a [usize],
}

/// Whether a product of operands of this type is made of pairs.
#[cfg(target_arch = "x86_64")]
pub(super) fn in_pairs(dtype: DType, cpu: &Cpu) -> bool {
    dtype == DType::BF16 && super::pairs::wanted(cpu)
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn in_pairs(_: DType, _: &Cpu) -> bool {
    false
}

/// Steps of a product over `k` elements of a type.
pub(super) fn steps(dtype: DType, k: usize, cpu: &Cpu) -> usize {
    #[cfg(target_arch = "x86_64")]
    if in_pairs(dtype, cpu) {
        return super::pairs::words(cpu.level, k);
    }
    let _ = (dtype, cpu);
    k
}

/// Bytes of the panels of `n` columns and as many [`steps`].
pub(super) fn panel_bytes(cpu: &Cpu, n: usize, steps: usize) -> usize {
    n.div_ceil(panel_width(cpu)) * panel_width(cpu) * steps * size_of::<f32>()
}

/// Packs a weight of `n` columns into panels in `dst`, zeros beyond column `n`.
///
/// # Safety
/// The weight's elements must be valid for reads, and `dst` must hold `first_panel` panels and [`panel_bytes`] more.
pub(super) unsafe fn pack_panels<T: Element>(cpu: &Cpu, dst: &HostBuffer, first_panel: usize, n: usize, weight: &Weight<'_, T>) {
    let (width, pairs) = (panel_width(cpu), in_pairs(T::DTYPE, cpu));
    let steps = steps(T::DTYPE, weight.offsets.len(), cpu);
    let base = Shared(dst.ptr().cast::<f32>());
    let dense = weight.offsets.iter().enumerate().all(|(k, &offset)| offset == weight.offsets[0] + k);
    cpu.pool.for_each(n.div_ceil(width), |panel| {
        // SAFETY: the caller's word; each index writes its own panel.
        let (src, dst) = unsafe {
            (weight.base.get().add(panel * width * weight.stride), base.get().add((first_panel + panel) * steps * width))
        };
        cpu.level.run(Panel { weight, dense, pairs, src, columns: width.min(n - panel * width), dst, steps });
    });
}

/// One panel.
struct Panel<'a, T> {
    weight: &'a Weight<'a, T>,
    /// Whether the elements of a column of the panel are neighbours in the weight.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX-512 turns blocks of those"))]
    dense: bool,
    pairs: bool,
    /// The panel's first column in the weight, and how many it has.
    src: *const T,
    columns: usize,
    dst: *mut f32,
    steps: usize,
}

impl<T: Element> Kernel for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (k, width) = (self.weight.offsets.len(), 2 * S::LANES);
        // SAFETY: by the word of `pack_panels`' caller the weight is there, and the panel is this task's.
        unsafe {
            if self.columns < width || (self.pairs && 2 * self.steps != k) {
                self.dst.write_bytes(0, self.steps * width);
            }
            #[cfg(target_arch = "x86_64")]
            if self.pairs {
                return super::pairs::pack(self.weight, self.dense, self.src.cast(), self.columns, self.dst);
            }
            if self.weight.stride == 1 {
                for kk in 0..k {
                    let src = self.src.add(*self.weight.offsets.get_unchecked(kk));
                    widen::<S, T>(src, 1, self.columns, self.dst.add(kk * width));
                }
                return;
            }
            for k0 in (0..k).step_by(BLOCK) {
                let count = BLOCK.min(k - k0);
                #[cfg(target_arch = "x86_64")]
                if S::LANES == super::transpose::SIDE && self.dense {
                    self.turn::<S>(k0, count);
                    continue;
                }
                for j in 0..self.columns {
                    for kk in k0..k0 + count {
                        let src = self.src.add(j * self.weight.stride + *self.weight.offsets.get_unchecked(kk));
                        self.dst.add(kk * width + j).write((*src).to_f32());
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl<T: Element> Panel<'_, T> {
    /// Steps `k0..k0 + count` of a weight whose columns are dense, by blocks turned in registers.
    ///
    /// # Safety
    /// As [`pack_panels`]; `S` must be AVX-512.
    #[inline(always)]
    unsafe fn turn<S: Simd>(&self, k0: usize, count: usize) {
        use super::transpose::{SIDE, words};
        // SAFETY: the caller's word.
        unsafe {
            let src = self.src.add(*self.weight.offsets.get_unchecked(k0));
            for j in (0..self.columns).step_by(SIDE) {
                let (rows, src) = (SIDE.min(self.columns - j), src.add(j * self.weight.stride));
                let to = (self.dst.add(k0 * 2 * SIDE + j), 2 * SIDE, SIDE);
                if T::DTYPE == DType::F32 {
                    words((src.cast(), self.weight.stride), (rows, count), to);
                    continue;
                }
                let mut block = [0f32; SIDE * SIDE];
                for r in 0..rows {
                    widen::<S, T>(src.add(r * self.weight.stride), 1, count, block.as_mut_ptr().add(r * SIDE));
                }
                words((block.as_ptr(), SIDE), (rows, count), to);
            }
        }
    }
}
