use super::Array;
use crate::{Error, Result, ops::conv3d_depthwise::Conv3dDepthwise};

pub fn run(_: &Conv3dDepthwise, _: &[Option<Array>]) -> Result<Vec<Array>> {
    Err(Error::shape("conv3d_depthwise", "stub"))
}
