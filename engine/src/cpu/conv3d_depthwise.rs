use super::Cpu;
use crate::{Error, Result, Tensor, ops::conv3d_depthwise::Conv3dDepthwise};

pub fn run(_: &Conv3dDepthwise, _: &[Option<&Tensor>], _: &[Tensor], _: &Cpu) -> Result<()> {
    Err(Error::shape("conv3d_depthwise", "stub"))
}
