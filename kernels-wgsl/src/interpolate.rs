//! Trilinear interpolation of T, H and W.

use tubelet_engine::{
    Result, Tensor,
    ops::{interpolate::Interpolate, taps::linear},
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
    resample::resample,
};

pub fn run(op: &Interpolate, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let axes = [0, 1, 2].map(|axis| linear(x.shape()[1 + axis], op.size[axis], op.align_corners));
    let kernel = Kernel::new("interpolate", include_str!("interpolate.wgsl")).strided("x", x).write("y", &outputs[0]);
    resample(kernel, x, &outputs[0], &axes, gpu)
}
