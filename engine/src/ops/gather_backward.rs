//! Gradient of a selection along one dimension.

use super::{Operation, Spec, check, run_one};
use crate::{DType, Error, Result, Tensor};

/// The transpose of [`super::gather::Gather`]: each row of the gradient is added to the row that was selected, in the order of `K`; rows that were
/// not get 0.
///
/// | operand | shape | |
/// |---|---|---|
/// | `gradient` | `[…, K, …, C]` | any strides |
/// | `indices` | `[…, K, …]` | i32, any strides; values outside `0..A` are clamped |
/// | result | `[…, A, …, C]` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatherBackward {
    /// As in the forward pass.
    pub axis: usize,
    /// A, the size of what was selected from.
    pub size: usize,
}

impl Operation for GatherBackward {
    const NAME: &'static str = "gather_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 2)?;
        let (gradient, indices) = (check::need(op, inputs, 0, "gradient")?, check::need(op, inputs, 1, "indices")?);
        check::float(op, gradient, "gradient")?;
        check::dtype(op, indices, "indices", DType::I32)?;
        let (g, i) = (gradient.shape(), indices.shape());
        let fits = i.rank() + 1 == g.rank() && self.axis < i.rank() && g[..i.rank()] == **i;
        if !fits || (self.size == 0 && i.elements() != 0) {
            return Err(Error::shape(op, format!("gradient {g}, indices {i}, {self:?}: expected […, K, …, C] and […, K, …]")));
        }
        let mut shape = g.to_vec();
        shape[self.axis] = self.size;
        Ok(vec![Spec::new(gradient.dtype(), &shape)?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, inputs[0].map_or(0, |x| x.elements() as u128))
    }
}

/// See [`GatherBackward`].
pub fn gather_backward(op: GatherBackward, gradient: &Tensor, indices: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(gradient), Some(indices)])
}
