//! Gradient of the binary cross-entropy.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        binary_cross_entropy_backward::BinaryCrossEntropyBackward, cross_entropy::LossReduction, cross_entropy_backward::share,
    },
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &BinaryCrossEntropyBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let logits = operand(inputs, 0)?;
    Kernel::new("binary_cross_entropy_backward", include_str!("binary_cross_entropy_backward.wgsl"))
        .read("logits", logits)
        .read("target", operand(inputs, 1)?)
        .read_optional("weight", optional(inputs, 2))
        .read("gradient", operand(inputs, 3)?)
        .write("dlogits", &outputs[0])
        .size("classes", logits.shape()[1])
        .number("share", share(op.loss.reduction, logits.elements()) as f32)
        .constant("EACH_LOSS", (op.loss.reduction == LossReduction::None).into())
        .launch_each(logits.elements(), gpu)
}
