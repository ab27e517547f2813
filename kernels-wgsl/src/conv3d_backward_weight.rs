//! Gradient of the tube convolution for its weight, straight from the video.

use tubelet_engine::{Result, Tensor, ops::conv3d_backward_weight::Conv3dBackwardWeight};

use crate::{
    conv3d::{geometry, normalisation},
    device::Wgpu,
    kernel::{Kernel, count, operand},
    product::Product,
};

pub fn run(op: &Conv3dBackwardWeight, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (video, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let (g, normalisation) = (gradient.shape(), normalisation(&op.conv, video)?);
    let [scale, shift] = normalisation.as_ref().map_or([None, None], |[scale, shift]| [Some(scale), Some(shift)]);
    let channels = video.shape()[4] / op.conv.groups;
    let product = Product {
        batches: op.conv.groups,
        m: g[4] / op.conv.groups,
        n: count(&op.kernel) * channels,
        k: count(&g[..4]),
        vectors: false,
    };
    let kernel = Kernel::new("conv3d_backward_weight", include_str!("conv3d_backward_weight.wgsl"))
        .strided("video", video)
        .rows("gradient", gradient)
        .read_optional("scale", scale)
        .read_optional("shift", shift)
        .write("dweight", &outputs[0])
        .sizes("v", video.shape())
        .sizes("y", g)
        .size("channels", channels);
    product.launch(geometry(kernel, &op.conv, &op.kernel), gpu)
}
