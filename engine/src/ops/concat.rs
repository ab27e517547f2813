//! Concatenation along one dimension.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Tensor};

/// Joins tensors along `axis`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x₀, x₁, …` | equal but for `axis` | any strides, one element type |
/// | result | the sizes along `axis` added | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// The dimension along which they are joined.
    pub axis: usize,
}

impl Operation for Concat {
    const NAME: &'static str = "concat";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        let first = check::need(op, inputs, 0, "x0")?;
        let mut shape = first.shape().to_vec();
        if self.axis >= shape.len() {
            return Err(Error::shape(op, format!("no axis {} in {}", self.axis, first.shape())));
        }
        shape[self.axis] = 0;
        for i in 0..inputs.len() {
            let x = check::need(op, inputs, i, "x")?;
            check::dtype(op, x, "x", first.dtype())?;
            let fits = x.rank() == shape.len() && (0..shape.len()).all(|d| d == self.axis || x.shape()[d] == first.shape()[d]);
            let sum = fits.then(|| shape[self.axis].checked_add(x.shape()[self.axis])).flatten();
            shape[self.axis] = sum.ok_or_else(|| {
                Error::shape(
                    op,
                    format!("operand {i} is {}, the first is {}, along axis {}", x.shape(), first.shape(), self.axis),
                )
            })?;
        }
        Ok(vec![Spec::new(first.dtype(), &shape)?])
    }

    fn flops(&self, _: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 0)
    }
}

/// See [`Concat`].
pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
    let inputs: Vec<Option<&Tensor>> = tensors.iter().copied().map(Some).collect();
    run_one(Concat { axis }, &inputs)
}
