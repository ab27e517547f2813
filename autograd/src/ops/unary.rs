//! From the operand.

use tubelet_engine::{
    Result, Tensor,
    ops::{unary::Unary, unary_backward::unary_backward},
};

use super::{At, Keep, Rule};

impl Rule for Unary {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: vec![0], outputs: Vec::new() }
    }

    fn cheap(&self, _: &[Option<&Tensor>]) -> bool {
        true
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(unary_backward(self.function, at.input(0)?, at.gradient()?)?)])
    }
}
