//! Cross-entropy of a batch, in f64: a batch of logits is small.

use super::{Cpu, strided::Strided, with_float};
use crate::{
    DType, Element, Result, Tensor,
    ops::cross_entropy::{CrossEntropy, LossReduction},
};

pub fn run(op: &CrossEntropy, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(logits), Some(target)] = *inputs else { return Ok(()) };
    with_float!("cross_entropy", logits.dtype(), T => typed::<T>(op, logits, target, &outputs[0], cpu))
}

fn typed<T: Element>(op: &CrossEntropy, logits: &Tensor, target: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let classes = logits.shape()[1];
    let rows = Strided::<T>::new(logits, cpu)?;
    let targets = Targets::new(op, target, classes)?;
    let loss = |i: usize| {
        // SAFETY: elements lie in the layout.
        let at = |k: usize| unsafe { (*rows.base.get().add(rows.offset(i) + k * rows.step)).to_f64() };
        let max = (0..classes).map(at).fold(f64::NEG_INFINITY, |m, x| if x.is_nan() || x > m { x } else { m });
        let log_sum = (0..classes).map(|k| (at(k) - max).exp()).sum::<f64>().ln();
        let term = |k: usize| {
            let (p, log) = (targets.probability(i, k), at(k) - max - log_sum);
            // A class of probability 0 counts 0 even where its logarithm is −∞.
            if p == 0.0 && !log.is_nan() { 0.0 } else { -p * log }
        };
        (0..classes).map(term).sum()
    };
    write(op.reduction, (0..logits.shape()[0]).map(loss), out, cpu)
}

/// The target distributions of a batch.
pub(super) struct Targets {
    labels: Option<Vec<i32>>,
    soft: Vec<f64>,
    epsilon: f64,
    classes: usize,
}

impl Targets {
    pub fn new(op: &CrossEntropy, target: &Tensor, classes: usize) -> Result<Self> {
        let labels = if target.dtype() == DType::I32 { Some(target.to_vec::<i32>()?) } else { None };
        let soft = if labels.is_none() { target.to_f64_vec()? } else { Vec::new() };
        Ok(Targets { labels, soft, epsilon: f64::from(op.label_smoothing), classes })
    }

    /// Of class `k` for sample `i`; NaN for a label outside.
    pub fn probability(&self, i: usize, k: usize) -> f64 {
        let hard = match &self.labels {
            Some(labels) if !(0..self.classes as i64).contains(&i64::from(labels[i])) => f64::NAN,
            Some(labels) => f64::from(u8::from(labels[i] as usize == k)),
            None => self.soft[i * self.classes + k],
        };
        (1.0 - self.epsilon) * hard + self.epsilon / self.classes as f64
    }
}

/// The losses of samples as one, or as they are.
pub(super) fn write(reduction: LossReduction, losses: impl ExactSizeIterator<Item = f64>, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let base = cpu.ptr::<f32>(out)?;
    let n = losses.len() as f64;
    let result = match reduction {
        LossReduction::None => {
            // SAFETY: an output of one value per loss.
            losses.enumerate().for_each(|(i, loss)| unsafe { base.add(i).write(loss as f32) });
            return Ok(());
        }
        LossReduction::Sum => losses.sum::<f64>(),
        LossReduction::Mean => losses.sum::<f64>() / n,
    };
    // SAFETY: a scalar output.
    unsafe { base.write(result as f32) };
    Ok(())
}
