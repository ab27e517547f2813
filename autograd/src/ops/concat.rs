//! Each operand's part of the gradient, as a view.

use tubelet_engine::{Result, Tensor, ops::concat::Concat};

use super::{At, Keep, Rule};

impl Rule for Concat {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep::default()
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let mut start = 0;
        let part = |i: usize| {
            let size = at.operand(i)?.shape[self.axis];
            start += size;
            at.if_wanted(i, || at.gradient()?.narrow(self.axis, start - size, size))
        };
        (0..at.operands()).map(part).collect()
    }
}
