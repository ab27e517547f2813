//! Resizing of images and frames.

use tubelet_engine::{
    Result, Tensor,
    ops::{resize::Resize, taps::resized},
};

use crate::{
    device::Wgpu,
    kernel::operand,
    resample::{as_video, resample, still},
};

pub fn run(op: &Resize, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let axes = [still(), resized(op, x.shape()[1], op.height), resized(op, x.shape()[2], op.width)];
    resample(&as_video(x)?, &as_video(&outputs[0])?, axes, gpu)
}
