//! From the operands, the result and the log-sum-exp: no matrix of scores is kept.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        attention::Attention,
        attention_backward::{AttentionBackward, attention_backward},
    },
};

use super::{At, Keep, Rule};

impl Rule for Attention {
    fn recorded(&self) -> Self {
        Attention { lse: true, ..*self }
    }

    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: vec![0, 1, 2], outputs: vec![0, 1] }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = AttentionBackward { scale: self.scale, axis: self.axis };
        let operands = [at.input(0)?, at.input(1)?, at.input(2)?];
        let gradients = attention_backward(op, operands, at.output(0)?, at.output(1)?, at.gradient()?)?;
        Ok(gradients.into_iter().map(Some).collect())
    }
}
