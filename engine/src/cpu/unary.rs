use super::Cpu;
use crate::{Error, Result, Tensor, ops::unary::Unary};

pub fn run(_: &Unary, _: &[Option<&Tensor>], _: &[Tensor], _: &Cpu) -> Result<()> {
    Err(Error::shape("unary", "stub"))
}
