//! Tube convolution as an implicit matrix product: patches go straight from the video into the rows of the blocked product, normalised
//! on the way; no matrix of patches is ever stored.

use std::sync::Arc;

use super::{
    Cpu, Shared,
    product::{Product, Residual, Rows, Weight, pack_panels, panel_bytes},
    simd::Simd,
    strided::row_offset,
    with_float,
};
use crate::{Element, HostBuffer, Operand, Result, Tensor, memory, ops::conv3d::Conv3d};

/// Panels of a weight `[O, kt, kh, kw, C]`, as f32, with the patch in the order `kt, kh, kw, C` of a channels-last video.
pub fn prepare(weight: &Tensor, cpu: &Cpu) -> Result<Tensor> {
    let buffer = pack(weight, cpu)?;
    Ok(weight.with_prepared(Operand::Conv3dWeight, Arc::new(buffer)))
}

fn pack(weight: &Tensor, cpu: &Cpu) -> Result<HostBuffer> {
    with_float!("conv3d", weight.dtype(), T => {
        let (layout, n) = (weight.layout(), weight.shape()[0]);
        let k: usize = weight.shape()[1..].iter().product();
        // The first `k` positions in row-major order are those of the first output channel.
        let offsets: Vec<usize> = if n == 0 { Vec::new() } else { (0..k).map(|k| row_offset(layout, 0, k)).collect() };
        let buffer = cpu.memory.allocate(panel_bytes(cpu, n, k))?;
        let weight = Weight { base: Shared(cpu.ptr::<T>(weight)?), stride: layout.strides()[0], offsets: &offsets };
        // SAFETY: the weight lies in its layout, and the panels in the buffer.
        unsafe { pack_panels(cpu, &buffer, 0, n, &weight) };
        Ok(buffer)
    })
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
            if inside && low == 0 && len == self.kernel[2] * channels {
                let src = self.video.get().add(row + (w - pad) * sw);
                match channels {
                    3 => self.interleave::<3>(src, dst),
                    1 => self.interleave::<1>(src, dst),
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
    unsafe fn interleave<const C: usize>(&self, src: *const V, dst: *mut f32) {
        let ([.., sw, sc], normalised) = (self.strides, !self.scale.is_empty());
        let scale: [f32; C] = std::array::from_fn(|c| if normalised { self.scale[c] } else { 1.0 });
        let shift: [f32; C] = std::array::from_fn(|c| if normalised { self.shift[c] } else { 0.0 });
        let copy = |sw: usize| {
            for i in 0..self.kernel[2] {
                for c in 0..C {
                    // SAFETY: passed on from the caller.
                    unsafe {
                        let x = (*src.add(i * sw + c * sc)).to_f32();
                        dst.add(i * C + c).write(if normalised { x * scale[c] + shift[c] } else { x });
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
    unsafe fn columns(&self, row: usize, w: usize, low: usize, len: usize, dst: *mut f32) {
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
        let start = self.index(first);
        let mut k = k0;
        while k < k0 + kc {
            let (segment, low) = (k / length, k % length);
            let len = (length - low).min(k0 + kc - k);
            // One run of all patches before the next run: neighbouring patches read neighbouring columns, so that the video is streamed.
            let mut index = start;
            for r in 0..count {
                // SAFETY: `(t, h)` lies in the video; `dst` is valid by the caller's word.
                unsafe {
                    let dst = dst.add(r * stride + k - k0);
                    match (self.inside(&index, 0, segment / kh), self.inside(&index, 1, segment % kh)) {
                        (Some(t), Some(h)) => {
                            let row = index[0] * self.strides[0] + t * self.strides[1] + h * self.strides[2];
                            self.run(row, self.corner(&index, 2), low, len, dst);
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

pub fn run(op: &Conv3d, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let Some(video) = inputs[0] else { return Ok(()) };
    with_float!("conv3d", outputs[0].dtype(), T => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DType, Device,
        cpu::{CpuOptions, Level},
        ops::conv3d::conv3d,
    };

    /// Every way to gather, channels together or apart (one of them, three, or another number), bytes or floats, whole runs and runs cut by
    /// a step of K, gives the numbers of the reference; all are small integers, so exactly.
    #[test]
    fn planar_and_interleaved_videos_agree_with_the_reference() {
        let reference = Device::reference();
        for (channels, padding) in [(1, [0, 0, 0]), (3, [0, 0, 0]), (3, [1, 2, 3]), (2, [0, 1, 0])] {
            let (size, kernel, n) = ([3, 6, 29, 37], [3, 10, 11], 20);
            let video: Vec<u8> =
                (0..size.iter().product::<usize>() * channels).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 9) as u8 % 7).collect();
            let floats: Vec<f32> = video.iter().map(|&x| f32::from(x)).collect();
            let k = kernel.iter().product::<usize>() * channels;
            let weight: Vec<f32> = (0..n * k).map(|i| f32::from((i.wrapping_mul(0x85EB_CA6B) >> 9) as u8 % 5) - 2.0).collect();
            let [b, t, h, w] = size;
            for normalised in [false, true] {
                let constants = |low: f32| (0..if normalised { channels } else { 0 }).map(|c| low + c as f32).collect();
                let op = Conv3d { padding, scale: constants(1.0), shift: constants(-2.0), ..Conv3d::new([1, 7, 5]) };
                // [b, t, h, w, c], or [b, c, t, h, w] seen as that; bytes or floats.
                let run = |device: &Device, planar: bool, bytes: bool| {
                    let shape = if planar { [b, channels, t, h, w] } else { [b, t, h, w, channels] };
                    let video = if bytes {
                        Tensor::from_slice(device, &shape, &video).unwrap()
                    } else {
                        Tensor::from_slice(device, &shape, &floats).unwrap()
                    };
                    let video = if planar { video.permute(&[0, 2, 3, 4, 1]).unwrap() } else { video };
                    let weight = Tensor::from_slice(device, &[n, kernel[0], kernel[1], kernel[2], channels], &weight).unwrap();
                    let plain = conv3d(op.clone(), &video, &weight, None, None).unwrap().to_f32_vec().unwrap();
                    let weight = weight.prepare(Operand::Conv3dWeight).unwrap();
                    let prepared = conv3d(op.clone(), &video, &weight, None, None).unwrap().to_f32_vec().unwrap();
                    assert_eq!(plain, prepared);
                    plain
                };
                for level in Level::ALL.into_iter().filter(|level| level.available()) {
                    let options = CpuOptions { threads: Some(2), simd: Some(level), memory_limit: None, guard: true };
                    let cpu = Device::new(Cpu::new(options).unwrap());
                    for (planar, bytes) in [(false, false), (false, true), (true, false), (true, true)] {
                        let same = run(&cpu, planar, bytes) == run(&reference, planar, bytes);
                        assert!(same, "{channels} channels, {op:?}, planar {planar}, bytes {bytes}, {level}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_weight_without_output_channels_can_be_prepared() {
        let device = Device::cpu().unwrap();
        Tensor::zeros(&device, DType::F32, &[0, 2, 2, 2, 3]).unwrap().prepare(Operand::Conv3dWeight).unwrap();
    }
}
