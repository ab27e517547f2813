//! Resizing of images and frames.

use super::{Operation, Spec, check, run_one};
use crate::{DType, Error, Result, Tensor};

/// The kernel of a resampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// Triangle of radius 1.
    Bilinear,
    /// Cubic convolution of radius 2: `a = −0.75`, and `−0.5` with antialias, as in PyTorch.
    Bicubic,
}

/// Separable resampling of H and W. Sampling positions as in [`super::interpolate`] (bilinear clamps them to 0 from below; bicubic clamps
/// its taps to the border); with `antialias` and shrinking, the filter widens by the scale and its weights are renormalised. The semantics of
/// PyTorch's `interpolate`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[N, H, W, C]` | u8 or float, any strides |
/// | result | `[N, height, width, C]` | same type; u8 rounds to nearest even and saturates |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Output rows.
    pub height: usize,
    /// Output columns.
    pub width: usize,
    /// The filter.
    pub filter: Filter,
    /// Low-pass when shrinking; not together with `align_corners`.
    pub antialias: bool,
    /// Whether the first and last samples coincide.
    pub align_corners: bool,
}

impl Operation for Resize {
    const NAME: &'static str = "resize";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 1)?;
        let x = check::need(op, inputs, 0, "x")?;
        if x.dtype() != DType::U8 {
            check::float(op, x, "x")?;
        }
        check::rank(op, x, "x", 4, "[N, H, W, C]")?;
        let s = x.shape();
        if s[1] == 0 || s[2] == 0 || (self.antialias && self.align_corners) {
            return Err(Error::shape(op, format!("x {s}, {self:?}: expected pixels, and not antialias with align_corners")));
        }
        Ok(vec![Spec::new(x.dtype(), &[s[0], self.height, self.width, s[3]])?])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        let taps = if self.filter == Filter::Bilinear { 4 } else { 8 };
        (0, 2 * taps * outputs[0].shape.elements() as u128)
    }
}

/// See [`Resize`].
pub fn resize(op: Resize, x: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(x)])
}
