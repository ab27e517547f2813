//! From the result alone.

use tubelet_engine::{
    Result, Tensor,
    ops::{softmax::Softmax, softmax_backward::softmax_backward},
};

use super::{At, Keep, Rule};

impl Rule for Softmax {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: Vec::new(), outputs: vec![0] }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(softmax_backward(self.log, at.output(0)?, at.gradient()?)?)])
    }
}
