//! Binary cross-entropy of logits: the elements' losses, then their sum or mean.

use tubelet_engine::{Result, Tensor, ops::binary_cross_entropy::BinaryCrossEntropy};

use crate::{
    cross_entropy::reduced,
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &BinaryCrossEntropy, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let logits = operand(inputs, 0)?;
    reduced(op.reduction, &outputs[0], logits.shape(), gpu, |losses| {
        Kernel::new("binary_cross_entropy", include_str!("binary_cross_entropy.wgsl"))
            .read("logits", logits)
            .read("target", operand(inputs, 1)?)
            .read_optional("weight", optional(inputs, 2))
            .write("loss", losses)
            .size("classes", logits.shape()[1])
            .launch_each(logits.elements(), gpu)
    })
}
