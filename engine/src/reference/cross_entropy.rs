use super::Array;
use crate::{Error, Result, ops::cross_entropy::CrossEntropy};

pub fn run(_: &CrossEntropy, _: &[Option<Array>]) -> Result<Vec<Array>> {
    Err(Error::shape("cross_entropy", "stub"))
}
