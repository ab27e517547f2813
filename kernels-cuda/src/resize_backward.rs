//! Gradient of resizing; see `resize_backward.cu`.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        resize_backward::ResizeBackward,
        taps::{resized, transposed},
    },
};

use crate::{
    backend::{CudaBackend, operand, result},
    resample::{as_video, choices, resample, still},
};

module!("resize_backward");

pub(crate) fn run(cuda: &CudaBackend, op: &ResizeBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "resize_backward";
    let (gradient, dx) = (operand(name, inputs, 0)?, result(name, outputs, 0)?);
    let [height, width] = op.size;
    let axes = || {
        let vertical = transposed(&resized(&op.resize, height, gradient.shape()[1]), height);
        let horizontal = transposed(&resized(&op.resize, width, gradient.shape()[2]), width);
        [still(), vertical, horizontal]
    };
    resample(cuda, name, &MODULE, &as_video(gradient)?, &as_video(dx)?, choices(&op.resize), axes)
}
