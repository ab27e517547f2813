//! Gradient of the cross-entropy.

use tubelet_engine::{
    DType, Result, Tensor,
    ops::{
        cross_entropy::LossReduction,
        cross_entropy_backward::{CrossEntropyBackward, share},
    },
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
};

pub fn run(op: &CrossEntropyBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (logits, target) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let [samples, classes] = [logits.shape()[0], logits.shape()[1]];
    Kernel::new("cross_entropy_backward", include_str!("cross_entropy_backward.wgsl"))
        .then(include_str!("cross_entropy_sample.wgsl"))
        .lanes(gpu.row_lanes())
        .rows("logits", logits)
        .read("target", target)
        .read("gradient", operand(inputs, 2)?)
        .write("dlogits", &outputs[0])
        .size("classes", classes)
        .number("smoothing", op.loss.label_smoothing)
        .number("share", share(op.loss.reduction, samples) as f32)
        .constant("LABELS", (target.dtype() == DType::I32).into())
        .constant("EACH_LOSS", (op.loss.reduction == LossReduction::None).into())
        .launch(samples, gpu)
}
