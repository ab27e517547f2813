use super::Array;
use crate::Function;
use crate::{Error, Result, ops::unary::Unary};

/// f64 value of a function.
pub(crate) fn function(f: Function, x: f64) -> f64 {
    let _ = f;
    x
}

pub fn run(_: &Unary, _: &[Option<Array>]) -> Result<Vec<Array>> {
    Err(Error::shape("unary", "stub"))
}
