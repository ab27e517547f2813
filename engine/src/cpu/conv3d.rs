//! Tube convolution as an implicit matrix product: patches go straight from the video into the rows of the blocked product, normalised
//! on the way; no matrix of patches is ever stored.

use std::sync::Arc;

use super::{
    Cpu, Shared,
    epilogue::{Epilogue, Residual},
    panels::{Weight, pack_panels, panel_bytes, steps},
    patches::Patches,
    product::{Product, Rows},
    strided::row_offset,
    with_float,
};
use crate::{DType, Element, HostBuffer, Operand, Result, Tensor, memory, ops::conv3d::Conv3d};

/// Panels of a weight `[O, kt, kh, kw, C]`, with the patch in the order `kt, kh, kw, C` of a channels-last video.
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
        let buffer = cpu.memory.allocate(panel_bytes(cpu, n, steps(T::DTYPE, k, cpu)))?;
        let weight = Weight { base: Shared(cpu.ptr::<T>(weight)?), stride: layout.strides()[0], offsets: &offsets };
        // SAFETY: the weight lies in its layout, and the panels in the buffer.
        unsafe { pack_panels(cpu, &buffer, 0, n, &weight) };
        Ok(buffer)
    })
}

pub fn run(op: &Conv3d, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let Some(video) = inputs[0] else { return Ok(()) };
    let (out, bytes) = (&outputs[0], video.dtype() == DType::U8);
    #[cfg(target_arch = "x86_64")]
    if super::panels::in_pairs(out.dtype(), cpu) {
        use half::bf16;
        return if bytes {
            typed::<u8, bf16, _>(op, inputs, out, |patches, k| super::patches::PairPatches { patches, k }, cpu)
        } else {
            typed::<bf16, bf16, _>(op, inputs, out, |patches, k| super::patches::PairPatches { patches, k }, cpu)
        };
    }
    with_float!("conv3d", out.dtype(), T => {
        if bytes { typed::<u8, T, _>(op, inputs, out, |x, _| x, cpu) } else { typed::<T, T, _>(op, inputs, out, |x, _| x, cpu) }
    })
}

/// `rows` makes rows of a product from patches of `k` elements.
fn typed<'a, V: Element, T: Element, R: Rows>(
    op: &'a Conv3d,
    inputs: &[Option<&Tensor>],
    out: &Tensor,
    rows: impl Fn(Patches<'a, V>, usize) -> R,
    cpu: &Cpu,
) -> Result<()> {
    let [Some(video), Some(weight), ..] = *inputs else { return Ok(()) };
    let dense = |i: usize| inputs.get(i).copied().flatten().map(Tensor::contiguous).transpose();
    let (bias, position) = (dense(2)?, dense(3)?);
    let pointer = |x: &Option<Tensor>| x.as_ref().map(|x| cpu.ptr::<T>(x)).transpose();
    let (bias, position_at) = (pointer(&bias)?, pointer(&position)?);
    let (w, out_channels) = (weight.shape(), weight.shape()[0]);
    let [channels, n] = [w[4], out_channels / op.groups];
    let tokens: usize = out.shape()[1..4].iter().product();
    for group in 0..op.groups {
        let tubes = std::array::from_fn(|axis| out.shape()[1 + axis]);
        let patches = Patches::<V>::new(op, video, group, [w[1], w[2], w[3]], tubes, cpu)?;
        let packed;
        let panels = if weight.prepared().is_some() {
            memory::host("cpu", weight.buffer())?.ptr().cast()
        } else {
            packed = pack(&weight.narrow(0, group * n, n)?, cpu)?;
            packed.ptr().cast()
        };
        // SAFETY: columns `group·n..` of the operands and of the result.
        let shifted = |p: *mut T| Shared(unsafe { p.add(group * n) });
        let offset = |row: usize| row % tokens * out_channels;
        let k = w[1] * w[2] * w[3] * channels;
        Product {
            rows: &rows(patches, k),
            batch: 1,
            m: out.shape()[0] * tokens,
            n,
            k: steps(T::DTYPE, k, cpu),
            panels: Shared(panels),
            epilogue: Epilogue {
                alpha: 1.0,
                function: None,
                bias: bias.map(shifted),
                residual: position_at.map(|p| Residual { base: shifted(p), offset: &offset, step: 1 }),
                out: shifted(cpu.ptr(out)?),
                stride: out_channels,
            },
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
        cpu::{panels::in_pairs, testing},
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
                let run = |device: &Device, dtype: DType, planar: bool, bytes: bool| {
                    let shape = if planar { [b, channels, t, h, w] } else { [b, t, h, w, channels] };
                    let video = if bytes {
                        Tensor::from_slice(device, &shape, &video).unwrap()
                    } else {
                        Tensor::from_f32(device, dtype, &shape, &floats).unwrap()
                    };
                    let video = if planar { video.permute(&[0, 2, 3, 4, 1]).unwrap() } else { video };
                    let shape = [n, kernel[0], kernel[1], kernel[2], channels];
                    let weight = Tensor::from_f32(device, dtype, &shape, &weight).unwrap();
                    let plain = conv3d(op.clone(), &video, &weight, None, None).unwrap().to_f32_vec().unwrap();
                    let weight = weight.prepare(Operand::Conv3dWeight).unwrap();
                    let prepared = conv3d(op.clone(), &video, &weight, None, None).unwrap().to_f32_vec().unwrap();
                    assert_eq!(plain, prepared);
                    plain
                };
                for cpu in testing::devices(2) {
                    // Levels with pairs gather f32 as those without do.
                    let pairs = cpu.backend().as_any().downcast_ref().is_some_and(|cpu| in_pairs(DType::BF16, cpu));
                    let dtype = if pairs { DType::BF16 } else { DType::F32 };
                    for (planar, bytes) in [(false, false), (false, true), (true, false), (true, true)] {
                        let same = run(&cpu, dtype, planar, bytes) == run(&reference, dtype, planar, bytes);
                        assert!(
                            same,
                            "{channels} channels, {op:?}, planar {planar}, bytes {bytes}, {}",
                            cpu.backend().description()
                        );
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
