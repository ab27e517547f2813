//! The same draws again: no mask is kept.

use tubelet_engine::{
    Result, Tensor,
    ops::dropout::{Dropout, dropout},
};

use super::{At, Keep, Rule};

impl Rule for Dropout {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep::default()
    }

    fn cheap(&self, _: &[Option<&Tensor>]) -> bool {
        true
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(dropout(*self, at.gradient()?)?)])
    }
}
