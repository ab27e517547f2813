//! Tube convolution as an implicit matrix product: patches go straight from the video into the rows of the blocked product, normalised
//! on the way; no matrix of patches is ever stored.

use std::sync::Arc;

use super::{
    Cpu, Shared,
    product::{Product, Residual, Rows, pack_panels, panel_bytes},
    simd::Simd,
};
use crate::{Element, HostBuffer, Operand, Result, Tensor, memory, ops::conv3d::Conv3d, with_element};

/// Panels of a weight `[O, kt, kh, kw, C]`, as f32, with the patch in the order `kt, kh, kw, C` of a channels-last video.
pub fn prepare(weight: &Tensor, cpu: &Cpu) -> Result<Tensor> {
    let buffer = pack(weight, cpu)?;
    Ok(weight.with_prepared(Operand::Conv3dWeight, Arc::new(buffer)))
}

fn pack(weight: &Tensor, cpu: &Cpu) -> Result<HostBuffer> {
    let s = weight.shape();
    let k: usize = s[1..].iter().product();
    let buffer = cpu.memory.allocate(panel_bytes(cpu, s[0], k))?;
    let strides: [usize; 5] = std::array::from_fn(|d| weight.layout().strides()[d]);
    let size: [usize; 5] = std::array::from_fn(|d| s[d]);
    with_element!(weight.dtype(), T => {
        let base = Shared(cpu.ptr::<T>(weight)?);
        pack_panels(cpu, &buffer, 0, s[0], k, |o, mut k| {
            let mut at = o * strides[0];
            for d in (1..5).rev() {
                at += k % size[d] * strides[d];
                k /= size[d];
            }
            // SAFETY: the index lies in the layout.
            unsafe { (*base.get().add(at)).to_f32() }
        });
    });
    Ok(buffer)
}

/// The patches of a video as rows.
struct Patches<'a, V> {
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

impl<V: Element> Patches<'_, V> {
    /// The batch element and the corner `[t, h, w]` (in padded coordinates) of patch `row`.
    #[inline(always)]
    fn corner(&self, row: usize) -> (usize, [usize; 3]) {
        let [nt, nh, nw] = self.tubes;
        let index = [row / (nh * nw) % nt, row / nw % nh, row % nw];
        let corner = std::array::from_fn(|axis| index[axis] * self.op.stride[axis] + self.op.offset[axis]);
        (row / (nt * nh * nw), corner)
    }

    /// Elements `low..low + len` of the run of `kw·C` elements at `(t, h)` and column `w` (padded coordinates).
    ///
    /// # Safety
    /// `t` and `h` (not padded) lie in the video; `dst` is valid for `len`.
    #[inline(always)]
    unsafe fn run(&self, row: usize, w: usize, low: usize, len: usize, dst: *mut f32) {
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
            let (mut column, mut channel) = (w + low / channels, low % channels);
            for i in 0..len {
                let mut x = 0.0;
                if column >= pad && column - pad < width {
                    x = (*self.video.get().add(row + (column - pad) * sw + channel * sc)).to_f32();
                    if !self.scale.is_empty() {
                        x = x * self.scale[low + i] + self.shift[low + i];
                    }
                }
                dst.add(i).write(x);
                channel += 1;
                if channel == channels {
                    (column, channel) = (column + 1, 0);
                }
            }
        }
    }

    /// A contiguous run, normalised; the compiler vectorises these loops for the level that they are inlined into.
    #[inline(always)]
    fn convert(&self, src: &[V], low: usize, dst: &mut [f32]) {
        if self.scale.is_empty() {
            for (y, x) in dst.iter_mut().zip(src) {
                *y = x.to_f32();
            }
            return;
        }
        let (scale, shift) = (&self.scale[low..low + dst.len()], &self.shift[low..low + dst.len()]);
        for (((y, x), scale), shift) in dst.iter_mut().zip(src).zip(scale).zip(shift) {
            *y = x.to_f32() * *scale + *shift;
        }
    }
}

impl<V: Element> Rows for Patches<'_, V> {
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, first: usize, count: usize, k0: usize, kc: usize, dst: *mut f32, stride: usize) {
        let [_, kh, kw] = self.kernel;
        let length = kw * self.size[4];
        for r in 0..count {
            let (b, corner) = self.corner(first + r);
            let mut k = k0;
            while k < k0 + kc {
                let (segment, low) = (k / length, k % length);
                let len = (length - low).min(k0 + kc - k);
                let t = (corner[0] + segment / kh).checked_sub(self.op.padding[0]).filter(|&t| t < self.size[1]);
                let h = (corner[1] + segment % kh).checked_sub(self.op.padding[1]).filter(|&h| h < self.size[2]);
                // SAFETY: `(t, h)` lies in the video; `dst` is valid by the caller's word.
                unsafe {
                    let dst = dst.add(r * stride + k - k0);
                    match (t, h) {
                        (Some(t), Some(h)) => {
                            let row = b * self.strides[0] + t * self.strides[1] + h * self.strides[2];
                            self.run(row, corner[2], low, len, dst);
                        }
                        _ => dst.write_bytes(0, len),
                    }
                }
                k += len;
            }
        }
    }
}

pub fn run(op: &Conv3d, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let Some(video) = inputs[0] else { return Ok(()) };
    with_element!(outputs[0].dtype(), T => {
        if video.dtype() == outputs[0].dtype() {
            typed::<T, T>(op, inputs, &outputs[0], cpu)
        } else {
            typed::<u8, T>(op, inputs, &outputs[0], cpu)
        }
    })
}

fn typed<V: Element, T: Element>(op: &Conv3d, inputs: &[Option<&Tensor>], out: &Tensor, cpu: &Cpu) -> Result<()> {
    let [Some(video), Some(weight), ..] = *inputs else { return Ok(()) };
    let dense = |i: usize| inputs.get(i).copied().flatten().map(Tensor::contiguous).transpose();
    let (bias, position) = (dense(2)?, dense(3)?);
    let pointer = |x: &Option<Tensor>| x.as_ref().map(|x| cpu.ptr::<T>(x)).transpose();
    let (bias, position_at) = (pointer(&bias)?, pointer(&position)?);
    let (w, out_channels) = (weight.shape(), weight.shape()[0]);
    let [channels, n] = [w[4], out_channels / op.groups];
    let tokens: usize = out.shape()[1..4].iter().product();
    for group in 0..op.groups {
        let repeat = |values: &[f32]| -> Vec<f32> {
            let own = values.get(group * channels..(group + 1) * channels).unwrap_or(&[]);
            own.iter().copied().cycle().take(if own.is_empty() { 0 } else { w[3] * channels }).collect()
        };
        let strides: [usize; 5] = std::array::from_fn(|d| video.layout().strides()[d]);
        let mut size: [usize; 5] = std::array::from_fn(|d| video.shape()[d]);
        size[4] = channels;
        // SAFETY: the group's first channel lies in the video.
        let first = unsafe { cpu.ptr::<V>(video)?.add(group * channels * strides[4]) };
        let patches = Patches {
            video: Shared(first),
            op,
            size,
            strides,
            kernel: [w[1], w[2], w[3]],
            tubes: std::array::from_fn(|axis| out.shape()[1 + axis]),
            scale: repeat(&op.scale),
            shift: repeat(&op.shift),
        };
        let packed;
        let panels = if weight.prepared().is_some() {
            // Panels are f32 whatever the weight's element type.
            memory::host("cpu", weight.buffer())?.ptr().cast()
        } else {
            packed = pack(&weight.narrow(0, group * n, n)?, cpu)?;
            packed.ptr().cast()
        };
        // SAFETY: columns `group·n..` of the operands and of the result.
        let shifted = |p: *mut T| Shared(unsafe { p.add(group * n) });
        let offset = |row: usize| row % tokens * out_channels;
        Product {
            rows: &patches,
            batch: 1,
            m: out.shape()[0] * tokens,
            n,
            k: w[1] * w[2] * w[3] * channels,
            panels: Shared(panels),
            alpha: 1.0,
            function: None,
            bias: bias.map(shifted),
            residual: position_at.map(|p| Residual { base: shifted(p), offset: &offset, step: 1 }),
            out: shifted(cpu.ptr(out)?),
            out_stride: out_channels,
        }
        .run(cpu)?;
    }
    Ok(())
}
