//! The transpose of resizing.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        resize_backward::ResizeBackward,
        taps::{resized, transposed},
    },
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
    resample::resample,
};

pub fn run(op: &ResizeBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let gradient = operand(inputs, 0)?;
    let [height, width] = op.size;
    let vertical = transposed(&resized(&op.resize, height, gradient.shape()[1]), height);
    let horizontal = transposed(&resized(&op.resize, width, gradient.shape()[2]), width);
    let kernel = Kernel::new("resize_backward", include_str!("resize_backward.wgsl"))
        .strided("gradient", gradient)
        .write("dx", &outputs[0]);
    resample(kernel, gradient, &outputs[0], &[vertical, horizontal], gpu)
}
