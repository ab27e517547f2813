//! Gradient of the softmax over the last dimension.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Tensor};

/// `dx = y · (gradient − Σ gradient · y)` over the last dimension; for the logarithm `dx = gradient − eʸ · Σ gradient`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `y` | `[…, C]` | the result of [`super::softmax::Softmax`], any strides |
/// | `gradient` | as `y` | any strides |
/// | result `dx` | as `y` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftmaxBackward {
    /// Whether `y` is the logarithm.
    pub log: bool,
}

impl Operation for SoftmaxBackward {
    const NAME: &'static str = "softmax_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 2)?;
        let (y, gradient) = (check::need(op, inputs, 0, "y")?, check::need(op, inputs, 1, "gradient")?);
        check::float(op, y, "y")?;
        check::dtype(op, gradient, "gradient", y.dtype())?;
        check::shape(op, gradient, "gradient", y.shape())?;
        if y.rank() == 0 {
            return Err(Error::shape(op, "y is a scalar, expected […, C]"));
        }
        Ok(vec![Spec { dtype: y.dtype(), shape: *y.shape() }])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, 4 * outputs[0].shape.elements() as u128)
    }
}

/// See [`SoftmaxBackward`].
pub fn softmax_backward(log: bool, y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    run_one(SoftmaxBackward { log }, &[Some(y), Some(gradient)])
}
