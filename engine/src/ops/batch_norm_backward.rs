//! Gradient of batch normalisation.

use super::{Operation, Spec, check, run};
use crate::{DType, Error, Result, Tensor};

/// With `x̂ = (x − mean)/σ`, `σ = √(var + eps)`, per channel: `dweight = Σ gradient · x̂`, `dbias = Σ gradient`, and
/// `dx = weight/σ · gradient` for running statistics, `dx = weight/σ · (gradient − (dbias + x̂ · dweight)/n)` for those of the batch of `n`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[…, C]` | any strides |
/// | `weight` | `[C]` | optional |
/// | `mean`, `var` | `[C]` | as the forward pass used them: f32 (f64 where `x` is) if they are the batch's, else of `x`'s type |
/// | `gradient` | as `x` | any strides |
/// | result `dx` | as `x` | |
/// | results `dweight`, `dbias` | `[C]` | |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormBackward {
    /// As in the forward pass.
    pub eps: f32,
    /// Whether the statistics are the batch's, so that `x` acts through them too.
    pub batch: bool,
}

impl Operation for BatchNormBackward {
    const NAME: &'static str = "batch_norm_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 5)?;
        let (x, gradient) = (check::need(op, inputs, 0, "x")?, check::need(op, inputs, 4, "gradient")?);
        check::float(op, x, "x")?;
        check::dtype(op, gradient, "gradient", x.dtype())?;
        check::shape(op, gradient, "gradient", x.shape())?;
        let c = *x.shape().last().ok_or_else(|| Error::shape(op, "x is a scalar, expected […, C]"))?;
        let wide = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let statistics = if self.batch { wide } else { x.dtype() };
        for (i, name, dtype) in [(1, "weight", x.dtype()), (2, "mean", statistics), (3, "var", statistics)] {
            let present = if i == 1 { check::optional(inputs, 1) } else { Some(check::need(op, inputs, i, name)?) };
            if let Some(p) = present {
                check::dtype(op, p, name, dtype)?;
                check::shape(op, p, name, &[c])?;
            }
        }
        let parameter = Spec::new(x.dtype(), &[c])?;
        Ok(vec![Spec { dtype: x.dtype(), shape: *x.shape() }, parameter, parameter])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, 10 * outputs[0].shape.elements() as u128)
    }
}

/// `[dx, dweight, dbias]` for the statistics `[mean, var]`; see [`BatchNormBackward`].
pub fn batch_norm_backward(
    op: BatchNormBackward,
    x: &Tensor,
    weight: Option<&Tensor>,
    [mean, var]: [&Tensor; 2],
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    let out = run(&op.into(), &[Some(x), weight, Some(mean), Some(var), Some(gradient)])?;
    out.try_into().map_err(|_| Error::shape(BatchNormBackward::NAME, "expected three results"))
}
