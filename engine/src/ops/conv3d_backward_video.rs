//! Gradient of the tube convolution with respect to the video.

use super::{Operation, Spec, check, conv3d::Conv3d, run_one};
use crate::{Error, Result, Tensor};

/// `dvideo[b, t, h, w, c] = scale[c] · Σ gradient[b, t', h', w', o] · weight[o, i, j, k, c]` over all tubes and channels `o` whose element
/// `(i, j, k)` lies at `(t, h, w)`; `scale` is 1 without normalisation.
///
/// | operand | shape | |
/// |---|---|---|
/// | `gradient` | `[B, T', H', W', O]` | any strides |
/// | `weight` | `[O, kt, kh, kw, C/groups]` | as the gradient, any strides |
/// | result | `[B, T, H, W, C]` | element type of `gradient` |
#[derive(Clone, Debug, PartialEq)]
pub struct Conv3dBackwardVideo {
    /// The forward operation.
    pub conv: Conv3d,
    /// `[T, H, W]` of the video.
    pub size: [usize; 3],
}

impl Operation for Conv3dBackwardVideo {
    const NAME: &'static str = "conv3d_backward_video";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 2)?;
        let (gradient, weight) = (check::need(op, inputs, 0, "gradient")?, check::need(op, inputs, 1, "weight")?);
        check::float(op, gradient, "gradient")?;
        check::dtype(op, weight, "weight", gradient.dtype())?;
        check::rank(op, gradient, "gradient", 5, "[B, T', H', W', O]")?;
        check::rank(op, weight, "weight", 5, "[O, kt, kh, kw, C/groups]")?;
        let (g, w) = (gradient.shape(), weight.shape());
        let channels =
            w[4].checked_mul(self.conv.groups).ok_or_else(|| Error::Overflow { what: format!("a video for weight {w}") })?;
        let video = [g[0], self.size[0], self.size[1], self.size[2], channels];
        if w[0] != g[4] {
            return Err(Error::shape(op, format!("gradient {g}, weight {w}: expected [{}, kt, kh, kw, C/groups]", g[4])));
        }
        self.conv.fits(op, &video, [w[1], w[2], w[3]], g)?;
        Ok(vec![Spec::new(gradient.dtype(), &video)?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        let (Some(gradient), Some(weight)) = (inputs[0], inputs[1]) else { return (0, 0) };
        let kernel: usize = weight.shape()[1..].iter().product();
        (2 * gradient.elements() as u128 * kernel as u128, 0)
    }
}

/// See [`Conv3dBackwardVideo`].
pub fn conv3d_backward_video(op: Conv3dBackwardVideo, gradient: &Tensor, weight: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(gradient), Some(weight)])
}
