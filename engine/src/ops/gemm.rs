//! Matrix product with epilogue: a linear layer, or a batch of products.

use super::{Function, Operation, Spec, check, run_one};
use crate::{Error, Operand, Result, Tensor};

/// `y = residual + f(alpha · x·Wᵀ + bias)`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[…, M, K]` | any strides |
/// | `weight` | `[N, K]`, or `[…, N, K]` with the batch dimensions of `x` | any strides, or prepared as [`Operand::GemmWeight`] |
/// | `bias` | `[N]` | optional |
/// | `residual` | `[…, M, N]` | optional, any strides |
/// | result | `[…, M, N]` | element type of `x` |
///
/// Half types accumulate in f32 and round once, after the epilogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Applied after the bias.
    pub function: Option<Function>,
}

impl Default for Gemm {
    fn default() -> Self {
        Gemm { alpha: 1.0, function: None }
    }
}

impl Operation for Gemm {
    const NAME: &'static str = "gemm";
    const PREPARED: Option<(usize, Operand)> = Some((1, Operand::GemmWeight));

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        infer(Self::NAME, inputs)
    }

    fn flops(&self, inputs: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        let k = inputs[0].map_or(0, |x| x.shape()[x.rank() - 1]) as u128;
        let n = outputs[0].shape.elements() as u128;
        let epilogue = u128::from(self.function.is_some()) + inputs.iter().skip(2).flatten().count() as u128;
        (2 * k * n, epilogue * n)
    }
}

/// The result's shape, for the operation `op`.
pub(super) fn infer(op: &'static str, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
    check::at_most(op, inputs, 4)?;
    let x = check::need(op, inputs, 0, "x")?;
    let w = check::need(op, inputs, 1, "weight")?;
    check::float(op, x, "x")?;
    check::dtype(op, w, "weight", x.dtype())?;
    let (xs, ws) = (x.shape(), w.shape());
    let misfit = || Error::shape(op, format!("x {xs} and weight {ws}, expected […, M, K] and [N, K] or […, N, K]"));
    if xs.rank() < 2 || ws.rank() < 2 {
        return Err(misfit());
    }
    let (batch, n) = (&xs[..xs.rank() - 2], ws[ws.rank() - 2]);
    if xs[xs.rank() - 1] != ws[ws.rank() - 1] || (ws.rank() > 2 && ws[..ws.rank() - 2] != *batch) {
        return Err(misfit());
    }
    let out = xs.with_tail(1, &[n])?;
    if let Some(bias) = check::optional(inputs, 2) {
        check::dtype(op, bias, "bias", x.dtype())?;
        check::shape(op, bias, "bias", &[n])?;
    }
    if let Some(residual) = check::optional(inputs, 3) {
        check::dtype(op, residual, "residual", x.dtype())?;
        check::shape(op, residual, "residual", &out)?;
    }
    Ok(vec![Spec { dtype: x.dtype(), shape: out }])
}

/// `x·Wᵀ + bias`: a linear layer. See [`Gemm`].
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    gemm(Gemm::default(), x, weight, bias, None)
}

/// See [`Gemm`].
pub fn gemm(op: Gemm, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>) -> Result<Tensor> {
    run_one(op, &[Some(x), Some(weight), bias, residual])
}
