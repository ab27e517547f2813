use super::Cpu;
use crate::{Error, Result, Tensor, ops::attention_topk_std::AttentionTopkStd};

pub fn run(_: &AttentionTopkStd, _: &[Option<&Tensor>], _: &[Tensor], _: &Cpu) -> Result<()> {
    Err(Error::shape("attention_topk_std", "stub"))
}
