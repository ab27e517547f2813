//! One step of Adam or AdamW on many tensors at once.

use super::{Operation, Spec, run, sgd::groups};
use crate::{Error, Result, Tensor};

/// `g' = gradient_scale·g (+ weight_decay·p unless decoupled)`; `p ← p·(1 − learning_rate·weight_decay)` if decoupled (AdamW);
/// `m ← β₁m + (1 − β₁)g'`; `v ← β₂v + (1 − β₂)g'²`; `p ← p − learning_rate/(1 − β₁ᵗ) · m / (√(v̂/(1 − β₂ᵗ)) + eps)`, where `v̂ = v`, or with
/// amsgrad the running maximum of `v`. PyTorch's `Adam` and `AdamW`.
///
/// Operands are `n` groups of `param, gradient, m, v, v̂` (`m`, `v`, `v̂` absent before the first step, `v̂` also without amsgrad); results are
/// `n` groups of `param, m, v`, and with amsgrad `v̂`. All of a group have one shape and are f32 (or all f64).
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the formula above names every parameter")]
pub struct Adam {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub decoupled: bool,
    pub amsgrad: bool,
    /// `t`, counted from 1.
    pub step: u32,
    /// Global-norm clipping multiplies every gradient by this.
    pub gradient_scale: f64,
}

impl Adam {
    /// Results of a group.
    pub fn results(&self) -> usize {
        if self.amsgrad { 4 } else { 3 }
    }
}

impl Operation for Adam {
    const NAME: &'static str = "adam";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        if self.step == 0 {
            return Err(Error::invalid("step", "counted from 1"));
        }
        let specs = groups(Self::NAME, inputs, 5)?;
        Ok(specs.into_iter().flat_map(|spec| vec![spec; self.results()]).collect())
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, outputs.iter().map(|s| 4 * s.shape.elements() as u128).sum())
    }
}

/// See [`Adam`]. Of each group `param, m, v, v̂`, where `v̂` is `v` without amsgrad.
pub fn adam(op: Adam, groups: &[[Option<&Tensor>; 5]]) -> Result<Vec<[Tensor; 4]>> {
    let mut out = run(&op.into(), groups.as_flattened())?.into_iter();
    Ok(std::iter::from_fn(|| {
        let [param, m, v] = [out.next()?, out.next()?, out.next()?];
        let bound = if op.amsgrad { out.next()? } else { v.clone() };
        Some([param, m, v, bound])
    })
    .collect())
}
