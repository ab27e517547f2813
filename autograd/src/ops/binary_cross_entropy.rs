//! With respect to the logits; targets and weights are constants.

use tubelet_engine::{
    Error, Result, Tensor,
    ops::{binary_cross_entropy::BinaryCrossEntropy, binary_cross_entropy_backward::binary_cross_entropy_backward},
};

use super::{At, Keep, Rule};

impl Rule for BinaryCrossEntropy {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: vec![0, 1, 2], outputs: Vec::new() }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        if at.wants(1) || at.wants(2) {
            return Err(Error::invalid("binary_cross_entropy", "targets and weights have no gradient"));
        }
        let dlogits = binary_cross_entropy_backward(*self, at.input(0)?, at.input(1)?, at.optional(2), at.gradient()?)?;
        Ok(vec![Some(dlogits)])
    }
}
