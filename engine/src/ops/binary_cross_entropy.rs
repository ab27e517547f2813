//! Binary cross-entropy of logits, for several labels at once (Charades).

use super::cross_entropy::{LossReduction, loss_spec};
use super::{Operation, Spec, check, run_one};
use crate::{Result, Tensor};

/// `loss = −(w·y·log σ(x) + (1 − y)·log(1 − σ(x)))` element by element, without overflow.
///
/// | operand | shape | |
/// |---|---|---|
/// | `logits` | `[N, K]` | any strides |
/// | `target` | `[N, K]` | in `0..=1` |
/// | `positive_weight` | `[K]` | optional: `w` |
/// | result | `[N, K]` or scalar | f32 (f64 where the logits are) |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinaryCrossEntropy {
    /// Over elements.
    pub reduction: LossReduction,
}

impl Operation for BinaryCrossEntropy {
    const NAME: &'static str = "binary_cross_entropy";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 3)?;
        let (logits, target) = (check::need(op, inputs, 0, "logits")?, check::need(op, inputs, 1, "target")?);
        check::float(op, logits, "logits")?;
        check::rank(op, logits, "logits", 2, "[N, K]")?;
        check::dtype(op, target, "target", logits.dtype())?;
        check::shape(op, target, "target", logits.shape())?;
        if let Some(weight) = check::optional(inputs, 2) {
            check::dtype(op, weight, "positive_weight", logits.dtype())?;
            check::shape(op, weight, "positive_weight", &logits.shape()[1..])?;
        }
        Ok(vec![loss_spec(logits, self.reduction, logits.shape())?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 6 * inputs[0].map_or(0, |x| x.elements() as u128))
    }
}

/// See [`BinaryCrossEntropy`].
pub fn binary_cross_entropy(
    op: BinaryCrossEntropy,
    logits: &Tensor,
    target: &Tensor,
    positive_weight: Option<&Tensor>,
) -> Result<Tensor> {
    run_one(op, &[Some(logits), Some(target), positive_weight])
}
