//! Softmax over the last dimension.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Tensor};

/// `y = eˣ⁻ᵐ / Σ eˣ⁻ᵐ` over the last dimension with `m = max x`, or its logarithm.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[…, C]` | any strides |
/// | result | `[…, C]` | a row with a NaN is NaN |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// Whether to return the logarithm.
    pub log: bool,
}

impl Operation for Softmax {
    const NAME: &'static str = "softmax";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        check::at_most(Self::NAME, inputs, 1)?;
        let x = check::need(Self::NAME, inputs, 0, "x")?;
        check::float(Self::NAME, x, "x")?;
        if x.rank() == 0 {
            return Err(Error::shape(Self::NAME, "x is a scalar, expected […, C]"));
        }
        Ok(vec![Spec { dtype: x.dtype(), shape: *x.shape() }])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, 4 * outputs[0].shape.elements() as u128)
    }
}

/// See [`Softmax`].
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    run_one(Softmax { log: false }, &[Some(x)])
}

/// See [`Softmax`].
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    run_one(Softmax { log: true }, &[Some(x)])
}
