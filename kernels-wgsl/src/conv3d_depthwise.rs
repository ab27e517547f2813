//! Depthwise 3D convolution: an invocation for each element, channels side by side.

use tubelet_engine::{Result, Tensor, ops::conv3d_depthwise::Conv3dDepthwise};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &Conv3dDepthwise, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (x, weight, y) = (operand(inputs, 0)?, operand(inputs, 1)?, &outputs[0]);
    Kernel::new("conv3d_depthwise", include_str!("conv3d_depthwise.wgsl"))
        .then(include_str!("voxel.wgsl"))
        .strided("x", x)
        .read("weight", weight)
        .read_optional("bias", optional(inputs, 2))
        .read_optional("residual", optional(inputs, 3))
        .write("y", y)
        .sizes("x", x.shape())
        .sizes("y", y.shape())
        .sizes("kernel", &weight.shape()[..3])
        .sizes("pad", &op.padding)
        .launch_each(y.elements(), gpu)
}
