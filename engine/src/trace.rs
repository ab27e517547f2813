//! The hook through which a layer above records what is computed.
//!
//! Every tensor is made in one of two places: [`ops::run`](crate::ops::run), or a view of another tensor. Both look whether an operand carries
//! a [`Trace`], and if one does, hand over. Without a trace nothing is recorded and nothing is kept alive.

use std::{any::Any, fmt, sync::Arc};

use crate::{Op, Result, Tensor};

/// How a view was taken of a tensor; the inverse follows from it and the two shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// Dimension `i` of the view is dimension `order[i]` of the tensor.
    Permute(Vec<usize>),
    /// `start..start + len` of dimension `dim`.
    Narrow {
        /// The dimension.
        dim: usize,
        /// The first element.
        start: usize,
    },
    /// Dimensions of size 1, and new leading ones, repeated.
    Broadcast,
    /// The same elements in the same order.
    Reshape,
}

/// A tensor's place in a recorded computation. Autograd implements this.
pub trait Trace: Send + Sync {
    /// Runs an operation of which at least one operand carries a trace, and records it.
    fn run(&self, op: &Op, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>>;
    /// The trace of a view, of this shape, of the tensor that carries this trace; `None` if the view shall carry none.
    fn view(self: Arc<Self>, view: View, result: &Tensor) -> Option<Arc<dyn Trace>>;
    /// For whoever made it.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl fmt::Debug for dyn Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}
