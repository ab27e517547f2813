//! Trilinear interpolation: one kernel resized into tubes of other sizes.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Tensor};

/// Trilinear resampling of the three dimensions before the last (TubeViT, section 3.2, interpolated kernels).
///
/// Output index `i` reads position `(i + ½)·in/out − ½`, clamped to 0 from below; with `align_corners`, `i·(in−1)/(out−1)`. No change of
/// magnitude. The semantics of PyTorch's `interpolate(mode="trilinear")`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[B, T, H, W, C]` | any strides; a kernel `[O, kt, kh, kw, C]` |
/// | result | `[B, t, h, w, C]` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpolate {
    /// `[t, h, w]`.
    pub size: [usize; 3],
    /// Whether the first and last samples coincide.
    pub align_corners: bool,
}

impl Operation for Interpolate {
    const NAME: &'static str = "interpolate";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        check::at_most(Self::NAME, inputs, 1)?;
        let x = check::need(Self::NAME, inputs, 0, "x")?;
        check::float(Self::NAME, x, "x")?;
        check::rank(Self::NAME, x, "x", 5, "[B, T, H, W, C]")?;
        let s = x.shape();
        if s[1..4].contains(&0) {
            return Err(Error::shape(Self::NAME, format!("x {s} has nothing to interpolate")));
        }
        Ok(vec![Spec::new(x.dtype(), &[s[0], self.size[0], self.size[1], self.size[2], s[4]])?])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, 16 * outputs[0].shape.elements() as u128)
    }
}

/// See [`Interpolate`].
pub fn interpolate(op: Interpolate, x: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(x)])
}
