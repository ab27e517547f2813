//! Selection along one dimension by indices.

use super::{Operation, Spec, check, run_one};
use crate::{DType, Error, Result, Tensor};

/// `y[i₀, …, iₐ, …, c] = x[i₀, …, indices[i₀, …, iₐ, …], …, c]`: whole rows of the last dimension, chosen along `axis` separately at
/// every other position (the residual of VidTr's pooling layers; a broadcast view of `[K]` indices selects the same everywhere).
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[…, A, …, C]` | any strides |
/// | `indices` | `[…, K, …]`: `x`'s without C, K in place of A | i32, any strides; values outside `0..A` are clamped |
/// | result | `[…, K, …, C]` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The dimension that is selected from; not the last.
    pub axis: usize,
}

impl Operation for Gather {
    const NAME: &'static str = "gather";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 2)?;
        let (x, indices) = (check::need(op, inputs, 0, "x")?, check::need(op, inputs, 1, "indices")?);
        check::dtype(op, indices, "indices", DType::I32)?;
        let (xs, is) = (x.shape(), indices.shape());
        let fits =
            is.rank() + 1 == xs.rank() && self.axis < is.rank() && (0..is.rank()).all(|d| d == self.axis || is[d] == xs[d]);
        if !fits || (xs[self.axis] == 0 && is.elements() != 0) {
            let message = format!("x {xs}, indices {is}, axis {}: expected […, A, …, C] and […, K, …]", self.axis);
            return Err(Error::shape(op, message));
        }
        Ok(vec![Spec { dtype: x.dtype(), shape: is.with_tail(0, &[xs[xs.rank() - 1]])? }])
    }

    fn flops(&self, _: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 0)
    }
}

/// See [`Gather`].
pub fn gather(x: &Tensor, indices: &Tensor, axis: usize) -> Result<Tensor> {
    run_one(Gather { axis }, &[Some(x), Some(indices)])
}
