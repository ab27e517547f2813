//! With respect to the logits; targets are constants.

use tubelet_engine::{
    Error, Result, Tensor,
    ops::{cross_entropy::CrossEntropy, cross_entropy_backward::cross_entropy_backward},
};

use super::{At, Keep, Rule};

impl Rule for CrossEntropy {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: vec![0, 1], outputs: Vec::new() }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        if at.wants(1) {
            return Err(Error::invalid("cross_entropy", "targets have no gradient"));
        }
        Ok(vec![Some(cross_entropy_backward(*self, at.input(0)?, at.input(1)?, at.gradient()?)?)])
    }
}
