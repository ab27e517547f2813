use super::Array;
use crate::{Error, Result, ops::attention_topk_std::AttentionTopkStd};

pub fn run(_: &AttentionTopkStd, _: &[Option<Array>]) -> Result<Vec<Array>> {
    Err(Error::shape("attention_topk_std", "stub"))
}
