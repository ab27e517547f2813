//! Tube convolution: patches are gathered from the video while the tiles of a product are filled.

use tubelet_engine::{Result, Tensor, ops::conv3d::Conv3d};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand, optional},
    product::Product,
};

/// The factors and terms of the fused normalisation, on the device.
pub(crate) fn normalisation(op: &Conv3d, x: &Tensor) -> Result<Option<[Tensor; 2]>> {
    if op.scale.is_empty() {
        return Ok(None);
    }
    let upload = |values: &[f32]| Tensor::from_slice(x.device(), &[values.len()], values);
    Ok(Some([upload(&op.scale)?, upload(&op.shift)?]))
}

/// How the tubes lie, as the kernels of the convolution and its gradients know it.
pub(crate) fn geometry<'a>(kernel: Kernel<'a>, op: &Conv3d, size: &[usize]) -> Kernel<'a> {
    kernel.sizes("kernel", size).sizes("stride", &op.stride).sizes("start", &op.offset).sizes("pad", &op.padding)
}

pub fn run(op: &Conv3d, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (video, weight, y) = (operand(inputs, 0)?, operand(inputs, 1)?, &outputs[0]);
    let (w, normalisation) = (weight.shape(), normalisation(op, video)?);
    let [scale, shift] = normalisation.as_ref().map_or([None, None], |[scale, shift]| [Some(scale), Some(shift)]);
    let product =
        Product { batches: op.groups, m: count(&y.shape()[..4]), n: w[0] / op.groups, k: count(&w[1..]), vectors: false };
    let kernel = Kernel::new("conv3d", include_str!("conv3d.wgsl"))
        .strided("video", video)
        .read("weight", weight)
        .read_optional("bias", optional(inputs, 2))
        .read_optional("position", optional(inputs, 3))
        .read_optional("scale", scale)
        .read_optional("shift", shift)
        .write("y", y)
        .sizes("v", video.shape())
        .sizes("y", y.shape())
        .size("channels", w[4])
        .size("outputs", w[0]);
    product.launch(geometry(kernel, op, &w[1..4]), gpu)
}
