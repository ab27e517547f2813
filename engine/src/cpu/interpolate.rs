use super::Cpu;
use crate::{Error, Result, Tensor, ops::interpolate::Interpolate};

pub fn run(_: &Interpolate, _: &[Option<&Tensor>], _: &[Tensor], _: &Cpu) -> Result<()> {
    Err(Error::shape("interpolate", "stub"))
}
