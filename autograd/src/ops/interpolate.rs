//! The transposed linear map.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        interpolate::Interpolate,
        interpolate_backward::{InterpolateBackward, interpolate_backward},
    },
};

use super::{At, Keep, Rule};

impl Rule for Interpolate {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep::default()
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let x = &at.operand(0)?.shape;
        let op = InterpolateBackward { size: [x[1], x[2], x[3]], align_corners: self.align_corners };
        Ok(vec![Some(interpolate_backward(op, at.gradient()?)?)])
    }
}
