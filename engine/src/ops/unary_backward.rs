//! Gradient of a function of each element.

use super::{Function, Operation, Spec, check, run_one};
use crate::{Result, Tensor};

/// `dx = gradient · f′(x)` element by element. The derivative of `max(x, 0)` at 0 is 0.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | any | the operand of [`super::unary::Unary`], any strides |
/// | `gradient` | as `x` | any strides |
/// | result `dx` | as `x` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnaryBackward {
    /// The function.
    pub function: Function,
}

impl Operation for UnaryBackward {
    const NAME: &'static str = "unary_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 2)?;
        let (x, gradient) = (check::need(op, inputs, 0, "x")?, check::need(op, inputs, 1, "gradient")?);
        check::float(op, x, "x")?;
        check::dtype(op, gradient, "gradient", x.dtype())?;
        check::shape(op, gradient, "gradient", x.shape())?;
        Ok(vec![Spec { dtype: x.dtype(), shape: *x.shape() }])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, 2 * outputs[0].shape.elements() as u128)
    }
}

/// See [`UnaryBackward`].
pub fn unary_backward(function: Function, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    run_one(UnaryBackward { function }, &[Some(x), Some(gradient)])
}
