//! Gradient of resizing.

use super::{Operation, Spec, check, resize::Resize, run_one};
use crate::{Error, Result, Tensor};

/// The transpose of [`Resize`]: each element of the gradient goes back to the pixels that its output read, with the same weights.
///
/// | operand | shape | |
/// |---|---|---|
/// | `gradient` | `[N, height, width, C]` | float, any strides |
/// | result | `[N, H, W, C]` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeBackward {
    /// The forward operation.
    pub resize: Resize,
    /// `[H, W]` of what was resized.
    pub size: [usize; 2],
}

impl Operation for ResizeBackward {
    const NAME: &'static str = "resize_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 1)?;
        let gradient = check::need(op, inputs, 0, "gradient")?;
        check::float(op, gradient, "gradient")?;
        check::rank(op, gradient, "gradient", 4, "[N, height, width, C]")?;
        let (g, [h, w]) = (gradient.shape(), self.size);
        let same = g[1..3] == [self.resize.height, self.resize.width];
        if !same || h == 0 || w == 0 || (self.resize.antialias && self.resize.align_corners) {
            return Err(Error::shape(op, format!("gradient {g}, {self:?}: expected the result's size, and pixels to go to")));
        }
        Ok(vec![Spec::new(gradient.dtype(), &[g[0], h, w, g[3]])?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 16 * inputs[0].map_or(0, |x| x.elements() as u128))
    }
}

/// See [`ResizeBackward`].
pub fn resize_backward(op: ResizeBackward, gradient: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(gradient)])
}
