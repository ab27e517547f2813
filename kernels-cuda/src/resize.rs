//! Resizing of images and frames; see `resize.cu`.

use tubelet_engine::{
    Result, Tensor,
    ops::{resize::Resize, taps::resized},
};

use crate::{
    backend::{CudaBackend, operand, result},
    resample::{as_video, choices, resample, still},
};

module!("resize");

pub(crate) fn run(cuda: &CudaBackend, op: &Resize, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let (x, y) = (operand("resize", inputs, 0)?, result("resize", outputs, 0)?);
    let axes = || [still(), resized(op, x.shape()[1], op.height), resized(op, x.shape()[2], op.width)];
    resample(cuda, "resize", &MODULE, &as_video(x)?, &as_video(y)?, choices(op), axes)
}
