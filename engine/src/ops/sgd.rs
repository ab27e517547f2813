//! One step of stochastic gradient descent on many tensors at once.

use super::{Operation, Spec, check, run};
use crate::{DType, Error, Result, Tensor};

/// `g' = gradient_scale·g + weight_decay·p`; `m ← momentum·m + (1 − dampening)·g'` (on the first step `m = g'`);
/// `p ← p − learning_rate·(nesterov ? g' + momentum·m : m)`. Without momentum, `p ← p − learning_rate·g'`. PyTorch's `SGD`.
///
/// Operands are `n` groups of `param, gradient, momentum buffer` (absent on the first step and without momentum); results are `n` groups
/// of `param, momentum buffer`. All of a group have one shape and are f32 (or all f64).
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the formula above names every parameter")]
pub struct Sgd {
    pub learning_rate: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
    /// Global-norm clipping multiplies every gradient by this.
    pub gradient_scale: f64,
}

impl Operation for Sgd {
    const NAME: &'static str = "sgd";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let specs = groups(Self::NAME, inputs, 3)?;
        Ok(specs.into_iter().flat_map(|spec| [spec; 2]).collect())
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, outputs.iter().map(|s| 3 * s.shape.elements() as u128).sum())
    }
}

/// Validates groups of `size` operands of equal shape, the first two present; the spec of each group.
pub(super) fn groups(op: &'static str, inputs: &[Option<&Tensor>], size: usize) -> Result<Vec<Spec>> {
    if !inputs.len().is_multiple_of(size) {
        return Err(Error::shape(op, format!("{} operands are not groups of {size}", inputs.len())));
    }
    let group = |group: &[Option<&Tensor>]| {
        let param = check::need(op, group, 0, "param")?;
        check::need(op, group, 1, "gradient")?;
        if param.dtype() != DType::F64 {
            check::dtype(op, param, "param", DType::F32)?;
        }
        for x in group.iter().flatten() {
            check::dtype(op, x, "gradient or state", param.dtype())?;
            check::shape(op, x, "gradient or state", param.shape())?;
        }
        Ok(Spec { dtype: param.dtype(), shape: *param.shape() })
    };
    inputs.chunks(size).map(group).collect()
}

/// See [`Sgd`].
pub fn sgd(op: Sgd, groups: &[[Option<&Tensor>; 3]]) -> Result<Vec<[Tensor; 2]>> {
    let mut out = run(&op.into(), groups.as_flattened())?.into_iter();
    Ok(std::iter::from_fn(|| Some([out.next()?, out.next()?])).collect())
}
