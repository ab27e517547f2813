//! Batch normalisation per channel.

use super::{Operation, Spec, check, run, run_one};
use crate::{DType, Error, Result, Tensor};

/// `y = (x − mean) / √(var + eps) · weight + bias` per channel, the last dimension.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[…, C]` | any strides |
/// | `weight`, `bias` | `[C]` | optional |
/// | `mean`, `var` | `[C]` | the running statistics; absent in training, where they come from the batch |
/// | result `y` | `[…, C]` | |
/// | results `mean`, `var`, in training | `[C]` f32 (f64 where `x` is) | biased variance; the caller updates the running ones |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl Operation for BatchNorm {
    const NAME: &'static str = "batch_norm";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 5)?;
        let x = check::need(op, inputs, 0, "x")?;
        check::float(op, x, "x")?;
        let c = *x.shape().last().ok_or_else(|| Error::shape(op, "x is a scalar, expected […, C]"))?;
        for (i, name) in [(1, "weight"), (2, "bias"), (3, "mean"), (4, "var")] {
            if let Some(p) = check::optional(inputs, i) {
                check::dtype(op, p, name, x.dtype())?;
                check::shape(op, p, name, &[c])?;
            }
        }
        let y = Spec { dtype: x.dtype(), shape: *x.shape() };
        let statistics = Spec::new(if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 }, &[c])?;
        match (check::optional(inputs, 3), check::optional(inputs, 4)) {
            (Some(_), Some(_)) => Ok(vec![y]),
            (None, None) if c == 0 || x.elements() > 0 => Ok(vec![y, statistics, statistics]),
            (None, None) => Err(Error::shape(op, format!("x {} has no elements to take statistics from", x.shape()))),
            _ => Err(Error::shape(op, "mean and var come together or not at all")),
        }
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        let per_element = if outputs.len() == 1 { 2 } else { 6 };
        (0, per_element * outputs[0].shape.elements() as u128)
    }
}

/// With running statistics `[mean, var]`; see [`BatchNorm`].
pub fn batch_norm(
    eps: f32,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    [mean, var]: [&Tensor; 2],
) -> Result<Tensor> {
    run_one(BatchNorm { eps }, &[Some(x), weight, bias, Some(mean), Some(var)])
}

/// With the batch's own statistics: `[y, mean, biased variance]`; see [`BatchNorm`].
pub fn batch_norm_training(eps: f32, x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<[Tensor; 3]> {
    let out = run(&BatchNorm { eps }.into(), &[Some(x), weight, bias])?;
    out.try_into().map_err(|_| Error::shape(BatchNorm::NAME, "expected three results"))
}
