//! Gradient of the depthwise 3D convolution: the operand's by elements, then the weight's by taps and channels.

use tubelet_engine::{Result, Tensor, ops::conv3d_depthwise_backward::Conv3dDepthwiseBackward};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

pub fn run(op: &Conv3dDepthwiseBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let [x, weight, gradient] = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    Kernel::new("conv3d_depthwise_backward", include_str!("conv3d_depthwise_backward.wgsl"))
        .then(include_str!("voxel.wgsl"))
        .strided("gradient", gradient)
        .read("weight", weight)
        .write("dx", &outputs[0])
        .sizes("x", x.shape())
        .sizes("y", gradient.shape())
        .sizes("kernel", &weight.shape()[..3])
        .sizes("pad", &op.padding)
        .launch_each(x.elements(), gpu)?;
    Kernel::new("conv3d_depthwise_backward_weight", include_str!("conv3d_depthwise_backward_weight.wgsl"))
        .then(include_str!("voxel.wgsl"))
        .lanes(gpu.row_lanes())
        .strided("x", x)
        .strided("gradient", gradient)
        .write("dweight", &outputs[1])
        .sizes("x", x.shape())
        .sizes("y", gradient.shape())
        .sizes("kernel", &weight.shape()[..3])
        .sizes("pad", &op.padding)
        .size("positions", count(&gradient.shape()[..4]))
        .launch(weight.elements(), gpu)
}
