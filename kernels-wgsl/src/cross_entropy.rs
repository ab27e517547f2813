//! Cross-entropy of logits with labels or soft targets: the samples' losses, then their sum or mean.

use tubelet_engine::{
    DType, Result, Tensor,
    ops::{
        cross_entropy::{CrossEntropy, LossReduction},
        reduce::{Reduce, Reduction},
    },
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
    reduce,
};

pub fn run(op: &CrossEntropy, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (logits, target) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let [samples, classes] = [logits.shape()[0], logits.shape()[1]];
    reduced(op.reduction, &outputs[0], &[samples], gpu, |losses| {
        Kernel::new("cross_entropy", include_str!("cross_entropy.wgsl"))
            .then(include_str!("cross_entropy_sample.wgsl"))
            .lanes(gpu.row_lanes())
            .rows("logits", logits)
            .read("target", target)
            .write("loss", losses)
            .size("classes", classes)
            .number("smoothing", op.label_smoothing)
            .constant("LABELS", (target.dtype() == DType::I32).into())
            .launch(samples, gpu)
    })
}

/// Writes the losses of shape `each` by `losses`, and their sum or mean to `out`.
pub(crate) fn reduced(
    reduction: LossReduction,
    out: &Tensor,
    each: &[usize],
    gpu: &Wgpu,
    losses: impl FnOnce(&Tensor) -> Result<()>,
) -> Result<()> {
    let reduction = match reduction {
        LossReduction::None => return losses(out),
        LossReduction::Sum => Reduction::Sum,
        LossReduction::Mean => Reduction::Mean,
    };
    let all = Tensor::empty(out.device(), DType::F32, each)?;
    losses(&all)?;
    reduce::run(&Reduce { reduction, axes: (0..each.len()).collect() }, &[Some(&all)], std::slice::from_ref(out), gpu)
}
