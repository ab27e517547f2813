//! The transposed linear map.

use tubelet_engine::{
    Result, Tensor,
    ops::{
        resize::Resize,
        resize_backward::{ResizeBackward, resize_backward},
    },
};

use super::{At, Keep, Rule};

impl Rule for Resize {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep::default()
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let x = &at.operand(0)?.shape;
        Ok(vec![Some(resize_backward(ResizeBackward { resize: *self, size: [x[1], x[2]] }, at.gradient()?)?)])
    }
}
