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
    kernel::operand,
    resample::{as_video, resample, still},
};

pub fn run(op: &ResizeBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let gradient = operand(inputs, 0)?;
    let [height, width] = op.size;
    let vertical = transposed(&resized(&op.resize, height, gradient.shape()[1]), height);
    let horizontal = transposed(&resized(&op.resize, width, gradient.shape()[2]), width);
    resample(&as_video(gradient)?, &as_video(&outputs[0])?, [still(), vertical, horizontal], gpu)
}
