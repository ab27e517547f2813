//! The gradient in the operand's element type.

use tubelet_engine::{Result, Tensor, ops::copy::Copy};

use super::{At, Keep, Rule};

impl Rule for Copy {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep::default()
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(at.gradient()?.cast(at.operand(0)?.dtype)?)])
    }
}
