//! Layer normalisation over the last dimension, with the residual sum in front of it if wanted.

use super::{Operation, Spec, check, run, run_one};
use crate::{Error, Result, Tensor};

/// `y = (s − mean(s)) / √(var(s) + eps) · weight + bias` over the last dimension, with `s = x + residual`; biased variance in two passes.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[…, C]` | any strides |
/// | `weight`, `bias` | `[C]` | optional |
/// | `residual` | `[…, C]` | optional, any strides |
/// | result `y` | `[…, C]` | |
/// | result `s`, with `residual` | `[…, C]` | rounded to the element type; `y` is computed before that rounding |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Added to the variance: 1e-6 in ViT, 1e-5 in CLIP.
    pub eps: f32,
}

impl Operation for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 4)?;
        let x = check::need(op, inputs, 0, "x")?;
        check::float(op, x, "x")?;
        let c = *x.shape().last().ok_or_else(|| Error::shape(op, "x is a scalar, expected […, C]"))?;
        for (i, name) in [(1, "weight"), (2, "bias")] {
            if let Some(p) = check::optional(inputs, i) {
                check::dtype(op, p, name, x.dtype())?;
                check::shape(op, p, name, &[c])?;
            }
        }
        let spec = Spec { dtype: x.dtype(), shape: *x.shape() };
        match check::optional(inputs, 3) {
            None => Ok(vec![spec]),
            Some(residual) => {
                check::dtype(op, residual, "residual", x.dtype())?;
                check::shape(op, residual, "residual", x.shape())?;
                Ok(vec![spec, spec])
            }
        }
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, 7 * outputs[0].shape.elements() as u128)
    }
}

/// See [`LayerNorm`].
pub fn layer_norm(eps: f32, x: &Tensor, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Result<Tensor> {
    run_one(LayerNorm { eps }, &[Some(x), weight, bias])
}

/// `[y, x + residual]`; see [`LayerNorm`].
pub fn add_layer_norm(
    eps: f32,
    x: &Tensor,
    residual: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<[Tensor; 2]> {
    let out = run(&LayerNorm { eps }.into(), &[Some(x), weight, bias, Some(residual)])?;
    out.try_into().map_err(|_| Error::shape(LayerNorm::NAME, "expected two results"))
}
