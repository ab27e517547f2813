//! Rows go back to where they were taken from.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        gather::Gather,
        gather_backward::{GatherBackward, gather_backward},
    },
};

use super::{At, Keep, Rule};

impl Rule for Gather {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: vec![1], outputs: Vec::new() }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = GatherBackward { axis: self.axis, size: at.operand(0)?.shape[self.axis] };
        Ok(vec![Some(gather_backward(op, at.gradient()?, at.input(1)?)?)])
    }
}
