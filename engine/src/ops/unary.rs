//! A function of each element.

use super::{Function, Operation, Spec, check, run_one};
use crate::{Result, Tensor};

/// `y = f(x)` element by element.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | any | any strides |
/// | result | as `x` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unary {
    /// The function.
    pub function: Function,
}

impl Operation for Unary {
    const NAME: &'static str = "unary";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        check::at_most(Self::NAME, inputs, 1)?;
        let x = check::need(Self::NAME, inputs, 0, "x")?;
        check::float(Self::NAME, x, "x")?;
        Ok(vec![Spec { dtype: x.dtype(), shape: *x.shape() }])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, outputs[0].shape.elements() as u128)
    }
}

/// See [`Unary`].
pub fn unary(function: Function, x: &Tensor) -> Result<Tensor> {
    run_one(Unary { function }, &[Some(x)])
}
