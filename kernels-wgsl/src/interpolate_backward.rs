//! The transpose of trilinear interpolation.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        interpolate_backward::InterpolateBackward,
        taps::{linear, transposed},
    },
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
    resample::resample,
};

pub fn run(op: &InterpolateBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let gradient = operand(inputs, 0)?;
    let axes = [0, 1, 2].map(|axis| {
        let n = op.size[axis];
        transposed(&linear(n, gradient.shape()[1 + axis], op.align_corners), n)
    });
    let kernel = Kernel::new("interpolate_backward", include_str!("interpolate_backward.wgsl"))
        .strided("gradient", gradient)
        .write("dx", &outputs[0]);
    resample(kernel, gradient, &outputs[0], &axes, gpu)
}
