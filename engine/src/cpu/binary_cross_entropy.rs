//! Binary cross-entropy of a batch, in f64: a batch of logits is small.

use super::{Cpu, cross_entropy::write};
use crate::{Result, Tensor, ops::binary_cross_entropy::BinaryCrossEntropy};

pub fn run(op: &BinaryCrossEntropy, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(logits), Some(target), ..] = *inputs else { return Ok(()) };
    let classes = logits.shape()[1];
    let weight = inputs.get(2).copied().flatten().map(Tensor::to_f64_vec).transpose()?;
    let (logits, target) = (logits.to_f64_vec()?, target.to_f64_vec()?);
    // log(1 + eˣ) without overflow.
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let loss = |(i, (&x, &y)): (usize, (&f64, &f64))| {
        let weight = weight.as_ref().map_or(1.0, |weight| weight[i % classes]);
        weight * y * softplus(-x) + (1.0 - y) * softplus(x)
    };
    let losses: Vec<f64> = logits.iter().zip(&target).enumerate().map(loss).collect();
    write(op.reduction, losses.into_iter(), &outputs[0], cpu)
}
