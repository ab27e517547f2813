//! Gradient of trilinear interpolation.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Tensor};

/// The transpose of [`super::interpolate::Interpolate`]: each element of the gradient goes back to the up to eight that its output read, with
/// the same weights.
///
/// | operand | shape | |
/// |---|---|---|
/// | `gradient` | `[B, t, h, w, C]` | any strides |
/// | result | `[B, T, H, W, C]` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterpolateBackward {
    /// `[T, H, W]` of what was interpolated.
    pub size: [usize; 3],
    /// As in the forward pass.
    pub align_corners: bool,
}

impl Operation for InterpolateBackward {
    const NAME: &'static str = "interpolate_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 1)?;
        let gradient = check::need(op, inputs, 0, "gradient")?;
        check::float(op, gradient, "gradient")?;
        check::rank(op, gradient, "gradient", 5, "[B, t, h, w, C]")?;
        if self.size.contains(&0) {
            return Err(Error::shape(op, format!("size {:?} has nothing to interpolate", self.size)));
        }
        let g = gradient.shape();
        Ok(vec![Spec::new(gradient.dtype(), &[g[0], self.size[0], self.size[1], self.size[2], g[4]])?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, 16 * inputs[0].map_or(0, |x| x.elements() as u128))
    }
}

/// See [`InterpolateBackward`].
pub fn interpolate_backward(op: InterpolateBackward, gradient: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(gradient)])
}
