//! With the statistics that the forward pass used: the batch's, which `x` acts through, or the running ones, which are constants.

use tubelet_engine::{
    Error, Result, Tensor,
    ops::{
        batch_norm::BatchNorm,
        batch_norm_backward::{BatchNormBackward, batch_norm_backward},
    },
};

use super::{At, Keep, Rule};

impl Rule for BatchNorm {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: vec![0, 1, 3, 4], outputs: vec![1, 2] }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        if at.wants(3) || at.wants(4) {
            return Err(Error::invalid("batch_norm", "running statistics have no gradient"));
        }
        let running = at.optional(3).zip(at.optional(4));
        let op = BatchNormBackward { eps: self.eps, batch: running.is_none() };
        let statistics = match running {
            Some((mean, var)) => [mean, var],
            None => [at.output(1)?, at.output(2)?],
        };
        let gradients = batch_norm_backward(op, at.input(0)?, at.optional(1), statistics, at.gradient()?)?;
        Ok(gradients.into_iter().map(Some).collect())
    }
}
