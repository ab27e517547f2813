//! Cross-entropy of logits with labels or soft targets.

use super::{Operation, Spec, check, run_one};
use crate::{DType, Error, Result, Tensor};

/// How the losses of samples become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossReduction {
    /// One loss per sample (per element for binary cross-entropy).
    None,
    /// Their sum.
    Sum,
    /// Their mean; NaN of nothing.
    Mean,
}

/// `loss[n] = −Σₖ p[n, k] · log softmax(logits[n])ₖ`, `p = (1 − ε)·target + ε/K`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `logits` | `[N, K]` | any strides |
/// | `target` | `[N]` i32 labels in `0..K`, or `[N, K]` of the logits' type | a label outside gives NaN |
/// | result | `[N]` or scalar | f32 (f64 where the logits are) |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// ε, in `0..=1`.
    pub label_smoothing: f32,
    /// Over samples.
    pub reduction: LossReduction,
}

impl Operation for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 2)?;
        let (logits, target) = (check::need(op, inputs, 0, "logits")?, check::need(op, inputs, 1, "target")?);
        check::float(op, logits, "logits")?;
        check::rank(op, logits, "logits", 2, "[N, K]")?;
        let n = logits.shape()[0];
        if target.dtype() == DType::I32 {
            check::shape(op, target, "target", &[n])?;
        } else {
            check::dtype(op, target, "target", logits.dtype())?;
            check::shape(op, target, "target", logits.shape())?;
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(Error::invalid("label_smoothing", format!("{} is not in 0..=1", self.label_smoothing)));
        }
        Ok(vec![loss_spec(logits, self.reduction, &[n])?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 5 * inputs[0].map_or(0, |x| x.elements() as u128))
    }
}

/// The result of a loss over `each` samples.
pub(super) fn loss_spec(logits: &Tensor, reduction: LossReduction, each: &[usize]) -> Result<Spec> {
    let dtype = if logits.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    Spec::new(dtype, if reduction == LossReduction::None { each } else { &[] })
}

/// See [`CrossEntropy`].
pub fn cross_entropy(op: CrossEntropy, logits: &Tensor, target: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(logits), Some(target)])
}
