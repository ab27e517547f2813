//! Gradient of the cross-entropy, in f64: a batch of logits is small.

use super::{Cpu, cross_entropy::Targets, with_float};
use crate::{
    Element, Result, Tensor,
    ops::cross_entropy_backward::{CrossEntropyBackward, share},
};

pub fn run(op: &CrossEntropyBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("cross_entropy_backward", outputs[0].dtype(), T => typed::<T>(op, inputs, &outputs[0], cpu))
}

fn typed<T: Element>(op: &CrossEntropyBackward, inputs: &[Option<&Tensor>], out: &Tensor, cpu: &Cpu) -> Result<()> {
    let [Some(logits), Some(target), Some(gradient)] = *inputs else { return Ok(()) };
    let (n, classes) = (logits.shape()[0], logits.shape()[1]);
    let targets = Targets::new(&op.loss, target, classes)?;
    let (logits, gradient) = (logits.to_f64_vec()?, gradient.to_f64_vec()?);
    let share = share(op.loss.reduction, n);
    let base = cpu.ptr::<T>(out)?;
    for (i, row) in logits.chunks(classes).enumerate() {
        let max = row.iter().fold(f64::NEG_INFINITY, |m, &x| if x.is_nan() || x > m { x } else { m });
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        let total: f64 = (0..classes).map(|k| targets.probability(i, k)).sum();
        let g = share * if gradient.len() == n { gradient[i] } else { gradient[0] };
        for (k, x) in row.iter().enumerate() {
            let dx = g * ((x - max).exp() / sum * total - targets.probability(i, k));
            // SAFETY: the output has an element for every logit.
            unsafe { base.add(i * classes + k).write(<T as Element>::from_f64(dx)) };
        }
    }
    Ok(())
}
