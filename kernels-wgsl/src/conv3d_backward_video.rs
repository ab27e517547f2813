//! Gradient of the tube convolution for its video.

use tubelet_engine::{Result, Tensor, ops::conv3d_backward_video::Conv3dBackwardVideo};

use crate::{
    conv3d::{geometry, normalisation},
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

pub fn run(op: &Conv3dBackwardVideo, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (gradient, weight, dvideo) = (operand(inputs, 0)?, operand(inputs, 1)?, &outputs[0]);
    let (w, normalisation) = (weight.shape(), normalisation(&op.conv, weight)?);
    let near: [usize; 3] = std::array::from_fn(|axis| w[1 + axis].div_ceil(op.conv.stride[axis]));
    let kernel = Kernel::new("conv3d_backward_video", include_str!("conv3d_backward_video.wgsl"))
        .rows("gradient", gradient)
        .read("weight", weight)
        .read_optional("scale", normalisation.as_ref().map(|[scale, _]| scale))
        .write("dvideo", dvideo)
        .sizes("v", dvideo.shape())
        .sizes("y", gradient.shape())
        .sizes("near", &near)
        .size("taps", count(&w[1..4]))
        .size("channels", w[4])
        .size("outputs", w[0] / op.conv.groups);
    geometry(kernel, &op.conv, &w[1..4]).launch_each(dvideo.elements(), gpu)
}
