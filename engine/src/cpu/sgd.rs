use super::Cpu;
use crate::{Error, Result, Tensor, ops::sgd::Sgd};

pub fn run(_: &Sgd, _: &[Option<&Tensor>], _: &[Tensor], _: &Cpu) -> Result<()> {
    Err(Error::shape("sgd", "stub"))
}
