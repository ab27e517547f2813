//! Gradient of the cross-entropy with respect to the logits.

use super::cross_entropy::{CrossEntropy, LossReduction};
use super::{Operation, Spec, check, run_one};
use crate::{Result, Tensor};

/// `dlogits[n, k] = g[n] · (softmax(logits[n])ₖ · Σⱼ p[n, j] − p[n, k])`, `p = (1 − ε)·target + ε/K`; `g` is the gradient of the loss, over `N`
/// if the loss is a mean.
///
/// | operand | shape | |
/// |---|---|---|
/// | `logits`, `target` | as in [`CrossEntropy`] | |
/// | `gradient` | `[N]` or scalar | as the loss |
/// | result | as `logits` | |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropyBackward {
    /// The forward operation.
    pub loss: CrossEntropy,
}

impl Operation for CrossEntropyBackward {
    const NAME: &'static str = "cross_entropy_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 3)?;
        let loss = self.loss.infer(inputs.get(..2).unwrap_or(inputs))?;
        let logits = check::need(op, inputs, 0, "logits")?;
        let gradient = check::need(op, inputs, 2, "gradient")?;
        check::dtype(op, gradient, "gradient", loss[0].dtype)?;
        check::shape(op, gradient, "gradient", &loss[0].shape)?;
        Ok(vec![Spec { dtype: logits.dtype(), shape: *logits.shape() }])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 6 * inputs[0].map_or(0, |x| x.elements() as u128))
    }
}

/// The factor of each sample's gradient: the mean's `1/n`.
pub fn share(reduction: LossReduction, n: usize) -> f64 {
    if reduction == LossReduction::Mean { 1.0 / n as f64 } else { 1.0 }
}

/// See [`CrossEntropyBackward`].
pub fn cross_entropy_backward(loss: CrossEntropy, logits: &Tensor, target: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    run_one(CrossEntropyBackward { loss }, &[Some(logits), Some(target), Some(gradient)])
}
