//! Gradient of the binary cross-entropy with respect to the logits.

use super::binary_cross_entropy::BinaryCrossEntropy;
use super::{Operation, Spec, check, run_one};
use crate::{Result, Tensor};

/// `dlogits = g · ((1 − y)·σ(x) − w·y·(1 − σ(x)))` element by element; `g` is the gradient of the loss, over the number of elements if the loss is
/// a mean.
///
/// | operand | shape | |
/// |---|---|---|
/// | `logits`, `target`, `positive_weight` | as in [`BinaryCrossEntropy`] | |
/// | `gradient` | `[N, K]` or scalar | as the loss |
/// | result | as `logits` | |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinaryCrossEntropyBackward {
    /// The forward operation.
    pub loss: BinaryCrossEntropy,
}

impl Operation for BinaryCrossEntropyBackward {
    const NAME: &'static str = "binary_cross_entropy_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 4)?;
        let loss = self.loss.infer(inputs.get(..3).unwrap_or(inputs))?;
        let logits = check::need(op, inputs, 0, "logits")?;
        let gradient = check::need(op, inputs, 3, "gradient")?;
        check::dtype(op, gradient, "gradient", loss[0].dtype)?;
        check::shape(op, gradient, "gradient", &loss[0].shape)?;
        Ok(vec![Spec { dtype: logits.dtype(), shape: *logits.shape() }])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 8 * inputs[0].map_or(0, |x| x.elements() as u128))
    }
}

/// See [`BinaryCrossEntropyBackward`].
pub fn binary_cross_entropy_backward(
    loss: BinaryCrossEntropy,
    logits: &Tensor,
    target: &Tensor,
    positive_weight: Option<&Tensor>,
    gradient: &Tensor,
) -> Result<Tensor> {
    run_one(BinaryCrossEntropyBackward { loss }, &[Some(logits), Some(target), positive_weight, Some(gradient)])
}
