//! Gradient of layer normalisation.

use super::{Operation, Spec, check, run};
use crate::{Error, Result, Tensor};

/// With `x̂ = (x − mean)/σ`, `σ = √(var + eps)` and `g = gradient · weight`:
/// `dx = (g − mean(g) − x̂ · mean(g · x̂)) / σ`, `dweight = Σ gradient · x̂`, `dbias = Σ gradient` over the rows. Mean and variance are computed
/// again from `x`, which costs less than the memory to keep them would.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[…, C]` | what was normalised (with a residual, the sum), any strides |
/// | `weight` | `[C]` | optional |
/// | `gradient` | as `x` | any strides |
/// | result `dx` | as `x` | |
/// | results `dweight`, `dbias` | `[C]` | |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormBackward {
    /// As in the forward pass.
    pub eps: f32,
}

impl Operation for LayerNormBackward {
    const NAME: &'static str = "layer_norm_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 3)?;
        let (x, gradient) = (check::need(op, inputs, 0, "x")?, check::need(op, inputs, 2, "gradient")?);
        check::float(op, x, "x")?;
        check::dtype(op, gradient, "gradient", x.dtype())?;
        check::shape(op, gradient, "gradient", x.shape())?;
        let c = *x.shape().last().ok_or_else(|| Error::shape(op, "x is a scalar, expected […, C]"))?;
        if let Some(weight) = check::optional(inputs, 1) {
            check::dtype(op, weight, "weight", x.dtype())?;
            check::shape(op, weight, "weight", &[c])?;
        }
        let parameter = Spec::new(x.dtype(), &[c])?;
        Ok(vec![Spec { dtype: x.dtype(), shape: *x.shape() }, parameter, parameter])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, 14 * outputs[0].shape.elements() as u128)
    }
}

/// `[dx, dweight, dbias]`; see [`LayerNormBackward`].
pub fn layer_norm_backward(eps: f32, x: &Tensor, weight: Option<&Tensor>, gradient: &Tensor) -> Result<[Tensor; 3]> {
    let out = run(&LayerNormBackward { eps }.into(), &[Some(x), weight, Some(gradient)])?;
    out.try_into().map_err(|_| Error::shape(LayerNormBackward::NAME, "expected three results"))
}
