//! Through the frames that were kept; which ones, and their deviations, have no gradient.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        attention_topk_std::AttentionTopkStd,
        attention_topk_std_backward::{AttentionTopkStdBackward, attention_topk_std_backward},
    },
};

use super::{At, Keep, Rule};

impl Rule for AttentionTopkStd {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: vec![0, 1, 2], outputs: vec![1] }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let op = AttentionTopkStdBackward { scale: self.scale, renormalize: self.renormalize };
        let operands = [at.input(0)?, at.input(1)?, at.input(2)?];
        let gradients = attention_topk_std_backward(op, operands, at.output(1)?, at.gradient()?)?;
        Ok(gradients.into_iter().map(Some).collect())
    }
}
