use super::Array;
use crate::{Error, Result, ops::conv3d::Conv3d};

pub fn run(_: &Conv3d, _: &[Option<Array>]) -> Result<Vec<Array>> {
    Err(Error::shape("conv3d", "stub"))
}
