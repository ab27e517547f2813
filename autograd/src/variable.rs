use std::{ops::Deref, sync::Arc};

use tubelet_engine::{Error, Result, Tensor};

use crate::graph::Node;

/// A tensor that gradients are wanted for: a parameter, or an input. It dereferences to the tensor that computations start from.
#[derive(Clone, Debug)]
pub struct Variable(Tensor);

impl Variable {
    /// A variable of this value; of a value that was computed from other variables, a new beginning.
    ///
    /// # Errors
    /// If the tensor's elements are not floating-point numbers, or a backend has laid it out for one kernel.
    pub fn new(value: Tensor) -> Result<Self> {
        if !value.dtype().is_float() {
            return Err(Error::DType { op: "variable", operand: "value", got: value.dtype(), expected: "a float" });
        }
        if let Some(operand) = value.prepared() {
            return Err(Error::shape("variable", format!("a tensor prepared as {operand:?} has no gradient")));
        }
        let leaf = Arc::new(Node::leaf(&value));
        Ok(Variable(value.with_trace(leaf)))
    }
}

impl Deref for Variable {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}
