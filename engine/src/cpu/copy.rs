use super::Cpu;
use crate::{Error, Result, Tensor, ops::copy::Copy};

pub fn run(_: &Copy, _: &[Option<&Tensor>], _: &[Tensor], _: &Cpu) -> Result<()> {
    Err(Error::shape("copy", "stub"))
}
