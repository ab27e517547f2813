//! The patches that a tube convolution reads, as rows of a matrix that is never stored: gathered straight from the video, normalised on the way.

use super::{
    Cpu, Shared,
    convert::narrow,
    product::{LDA, Rows, blocks},
    simd::Simd,
};
use crate::{DType, Element, Result, Tensor, ops::conv3d::Conv3d};

/// The patches of a video as rows.
pub(super) struct Patches<'a, V> {
    video: Shared<V>,
    op: &'a Conv3d,
    /// `[B, T, H, W, C]` and its strides; C counts one group.
    size: [usize; 5],
    strides: [usize; 5],
    /// `[kt, kh, kw]`
    kernel: [usize; 3],
    /// Tubes along T, H, W.
    tubes: [usize; 3],
    /// Scale and shift of the `kw·C` elements of a run; empty without normalisation.
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl<'a, V: Element> Patches<'a, V> {
    /// The patches of one channel group for a kernel `[kt, kh, kw]`, of which `tubes` lie along T, H, W.
    pub fn new(op: &'a Conv3d, video: &Tensor, group: usize, kernel: [usize; 3], tubes: [usize; 3], cpu: &Cpu) -> Result<Self> {
        let channels = video.shape()[4] / op.groups;
        let repeat = |values: &[f32]| -> Vec<f32> {
            let own = values.get(group * channels..(group + 1) * channels).unwrap_or(&[]);
            own.iter().copied().cycle().take(if own.is_empty() { 0 } else { kernel[2] * channels }).collect()
        };
        let strides: [usize; 5] = std::array::from_fn(|d| video.layout().strides()[d]);
        let mut size: [usize; 5] = std::array::from_fn(|d| video.shape()[d]);
        size[4] = channels;
        // SAFETY: the group's first channel lies in the video.
        let first = unsafe { cpu.ptr::<V>(video)?.add(group * channels * strides[4]) };
        let (scale, shift) = (repeat(&op.scale), repeat(&op.shift));
        Ok(Patches { video: Shared(first), op, size, strides, kernel, tubes, scale, shift })
    }

    /// The patch `row` as `[b, t, h, w]`.
    fn index(&self, row: usize) -> [usize; 4] {
        let [nt, nh, nw] = self.tubes;
        [row / (nt * nh * nw), row / (nh * nw) % nt, row / nw % nh, row % nw]
    }

    /// The next patch in row-major order.
    #[inline(always)]
    fn advance(&self, index: &mut [usize; 4]) {
        for axis in (1..4).rev() {
            index[axis] += 1;
            if index[axis] < self.tubes[axis - 1] {
                return;
            }
            index[axis] = 0;
        }
        index[0] += 1;
    }

    /// The first element along `axis` of the patch at `index`, in padded coordinates.
    #[inline(always)]
    fn corner(&self, index: &[usize; 4], axis: usize) -> usize {
        index[1 + axis] * self.op.stride[axis] + self.op.offset[axis]
    }

    /// Row `i` of the kernel along `axis`, in the video's coordinates; `None` in the padding.
    #[inline(always)]
    fn inside(&self, index: &[usize; 4], axis: usize, i: usize) -> Option<usize> {
        let at = (self.corner(index, axis) + i).checked_sub(self.op.padding[axis]);
        at.filter(|&at| at < self.size[1 + axis])
    }

    /// Elements `low..low + len` of the run of `kw·C` elements at `(t, h)` and column `w` (padded coordinates).
    ///
    /// # Safety
    /// `t` and `h` (not padded) lie in the video; `dst` is valid for `len`.
    #[inline(always)]
    unsafe fn run<D: Element>(&self, row: usize, w: usize, low: usize, len: usize, dst: *mut D) {
        let ([.., width, channels], [.., sw, sc]) = (self.size, self.strides);
        let pad = self.op.padding[2];
        let inside = w >= pad && w - pad + self.kernel[2] <= width;
        // SAFETY: columns outside the video are not read; the rest is the caller's word.
        unsafe {
            if inside && sc == 1 && sw == channels {
                let src = std::slice::from_raw_parts(self.video.get().add(row + (w - pad) * sw + low), len);
                let dst = std::slice::from_raw_parts_mut(dst, len);
                self.convert(src, low, dst);
                return;
            }
            if inside && low == 0 && len == self.kernel[2] * channels {
                let src = self.video.get().add(row + (w - pad) * sw);
                match channels {
                    3 => self.interleave::<3, D>(src, dst),
                    1 => self.interleave::<1, D>(src, dst),
                    _ => self.columns(row, w, low, len, dst),
                }
                return;
            }
            self.columns(row, w, low, len, dst);
        }
    }

    /// A whole run inside a video whose channels lie apart, as in `[B, C, T, H, W]`; the constant lets the compiler shuffle vectors.
    ///
    /// # Safety
    /// The run at `src` lies in the video; `dst` is valid for it.
    #[inline(always)]
    unsafe fn interleave<const C: usize, D: Element>(&self, src: *const V, dst: *mut D) {
        let ([.., sw, sc], normalised) = (self.strides, !self.scale.is_empty());
        let scale: [f32; C] = std::array::from_fn(|c| if normalised { self.scale[c] } else { 1.0 });
        let shift: [f32; C] = std::array::from_fn(|c| if normalised { self.shift[c] } else { 0.0 });
        let copy = |sw: usize| {
            for i in 0..self.kernel[2] {
                for c in 0..C {
                    // SAFETY: passed on from the caller.
                    unsafe {
                        let x = (*src.add(i * sw + c * sc)).to_f32();
                        dst.add(i * C + c).write(gathered(if normalised { x * scale[c] + shift[c] } else { x }));
                    }
                }
            }
        };
        if sw == 1 { copy(1) } else { copy(sw) }
    }

    /// Elements `low..low + len` of a run one by one: whatever the strides, padding left and right.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn columns<D: Element>(&self, row: usize, w: usize, low: usize, len: usize, dst: *mut D) {
        let ([.., width, channels], [.., sw, sc]) = (self.size, self.strides);
        let pad = self.op.padding[2];
        // SAFETY: columns outside the video are not read; the rest is the caller's word.
        unsafe {
            let (mut column, mut channel) = (w + low / channels, low % channels);
            for i in 0..len {
                let mut x = 0.0;
                if column >= pad && column - pad < width {
                    x = (*self.video.get().add(row + (column - pad) * sw + channel * sc)).to_f32();
                    if !self.scale.is_empty() {
                        x = x * self.scale[low + i] + self.shift[low + i];
                    }
                }
                dst.add(i).write(gathered(x));
                channel += 1;
                if channel == channels {
                    (column, channel) = (column + 1, 0);
                }
            }
        }
    }

    /// A contiguous run, normalised; the compiler vectorises these loops for the level that they are inlined into.
    #[inline(always)]
    fn convert<D: Element>(&self, src: &[V], low: usize, dst: &mut [D]) {
        if self.scale.is_empty() {
            for (y, x) in dst.iter_mut().zip(src) {
                *y = gathered(x.to_f32());
            }
            return;
        }
        let (scale, shift) = (&self.scale[low..low + dst.len()], &self.shift[low..low + dst.len()]);
        for (((y, x), scale), shift) in dst.iter_mut().zip(src).zip(scale).zip(shift) {
            *y = gathered(x.to_f32() * *scale + *shift);
        }
    }
}

/// To the element type of a gathered row: f32, or bf16 without branches, so that loops become vectors.
#[inline(always)]
fn gathered<D: Element>(x: f32) -> D {
    // SAFETY: `D` is bf16.
    if D::DTYPE == DType::BF16 { unsafe { std::mem::transmute_copy(&narrow(x)) } } else { D::from_f32(x) }
}

impl<V: Element> Patches<'_, V> {
    /// Elements `low..high` of patches `first..first + count`, to rows at `dst` and every `stride` on.
    ///
    /// # Safety
    /// `dst` must be valid for these writes.
    #[inline(always)]
    pub unsafe fn gather_as<D: Element>(
        &self,
        (first, count): (usize, usize),
        (low, high): (usize, usize),
        (dst, stride): (*mut D, usize),
    ) {
        let [_, kh, kw] = self.kernel;
        let length = kw * self.size[4];
        let start = self.index(first);
        let mut k = low;
        while k < high {
            let (segment, begin) = (k / length, k % length);
            let len = (length - begin).min(high - k);
            // One run of all patches before the next run: neighbouring patches read neighbouring columns, so that the video is streamed.
            let mut index = start;
            for r in 0..count {
                // SAFETY: `(t, h)` lies in the video; `dst` is valid by the caller's word.
                unsafe {
                    let dst = dst.add(r * stride + k - low);
                    match (self.inside(&index, 0, segment / kh), self.inside(&index, 1, segment % kh)) {
                        (Some(t), Some(h)) => {
                            let row = index[0] * self.strides[0] + t * self.strides[1] + h * self.strides[2];
                            self.run(row, self.corner(&index, 2), begin, len, dst);
                        }
                        _ => dst.write_bytes(0, len),
                    }
                }
                self.advance(&mut index);
            }
            k += len;
        }
    }
}

impl<V: Element> Rows for Patches<'_, V> {
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, first: usize, count: usize, steps: usize, dst: *mut f32) {
        for (k0, kc, dst) in blocks(steps, count, dst) {
            // SAFETY: passed on from the caller.
            unsafe { self.gather_as((first, count), (k0, k0 + kc), (dst, LDA)) };
        }
    }
}

/// Patches of `k` elements as words of two bf16, for products of [pairs](super::pairs). Bytes are exact in bf16; a video that is normalised is rounded
/// after that, as a model in bf16 has it. (In weights, which have been packed before they meet a video, the scale would be rounded as well.)
#[cfg(target_arch = "x86_64")]
pub(super) struct PairPatches<'a, V> {
    pub patches: Patches<'a, V>,
    pub k: usize,
}

#[cfg(target_arch = "x86_64")]
impl<V: Element> Rows for PairPatches<'_, V> {
    const PAIRS: bool = true;

    fn enter<K: super::simd::Kernel>(level: super::simd::Level, kernel: K) -> K::Output {
        level.run_widest(kernel)
    }

    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, first: usize, count: usize, steps: usize, dst: *mut f32) {
        for (k0, kc, dst) in blocks(steps, count, dst) {
            let (low, high) = (2 * k0, (2 * (k0 + kc)).min(self.k));
            let dst = dst.cast::<half::bf16>();
            // SAFETY: passed on from the caller.
            unsafe {
                self.patches.gather_as((first, count), (low, high), (dst, 2 * LDA));
                if high < 2 * (k0 + kc) {
                    (0..count).for_each(|r| dst.add(2 * r * LDA + high - low).write_bytes(0, 2 * (k0 + kc) - high));
                }
            }
        }
    }
}
