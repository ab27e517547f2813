//! Resizing of images and frames.

use tubelet_engine::{
    Result, Tensor,
    ops::{resize::Resize, taps::resized},
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
    resample::resample,
};

pub fn run(op: &Resize, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let axes = [resized(op, x.shape()[1], op.height), resized(op, x.shape()[2], op.width)];
    let kernel = Kernel::new("resize", include_str!("resize.wgsl")).strided("x", x).write("y", &outputs[0]);
    resample(kernel, x, &outputs[0], &axes, gpu)
}
