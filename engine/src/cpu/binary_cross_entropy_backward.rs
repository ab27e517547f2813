//! Gradient of the binary cross-entropy, in f64: a batch of logits is small.

use super::{Cpu, with_float};
use crate::{
    Element, Result, Tensor,
    ops::{binary_cross_entropy_backward::BinaryCrossEntropyBackward, cross_entropy_backward::share},
};

pub fn run(op: &BinaryCrossEntropyBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("binary_cross_entropy_backward", outputs[0].dtype(), T => typed::<T>(op, inputs, &outputs[0], cpu))
}

fn typed<T: Element>(op: &BinaryCrossEntropyBackward, inputs: &[Option<&Tensor>], out: &Tensor, cpu: &Cpu) -> Result<()> {
    let [Some(logits), Some(target), weight, Some(gradient)] = *inputs else { return Ok(()) };
    let classes = logits.shape()[1];
    let weight = weight.map(Tensor::to_f64_vec).transpose()?;
    let (logits, target, gradient) = (logits.to_f64_vec()?, target.to_f64_vec()?, gradient.to_f64_vec()?);
    let share = share(op.loss.reduction, logits.len());
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let base = cpu.ptr::<T>(out)?;
    for (i, (&x, &y)) in logits.iter().zip(&target).enumerate() {
        let weight = weight.as_ref().map_or(1.0, |weight| weight[i % classes]);
        let g = share * if gradient.len() == logits.len() { gradient[i] } else { gradient[0] };
        let dx = g * ((1.0 - y) * sigmoid(x) - weight * y * sigmoid(-x));
        // SAFETY: the output has an element for every logit.
        unsafe { base.add(i).write(<T as Element>::from_f64(dx)) };
    }
    Ok(())
}
