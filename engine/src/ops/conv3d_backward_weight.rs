//! Gradient of the tube convolution with respect to its weight, straight from the video.

use super::{Operation, Spec, check, conv3d::Conv3d, run_one};
use crate::{DType, Error, Result, Tensor};

/// `dweight[o, i, j, k, c] = Σ gradient[b, t, h, w, o] · v(b, t·s₀+d₀+i−p₀, h·s₁+d₁+j−p₁, w·s₂+d₂+k−p₂, c)` over `b, t, h, w`, with the
/// normalised video `v` of [`Conv3d`].
///
/// | operand | shape | |
/// |---|---|---|
/// | `video` | `[B, T, H, W, C]` | u8 or the gradient's type, any strides |
/// | `gradient` | `[B, T', H', W', O]` | any strides |
/// | result | `[O, kt, kh, kw, C/groups]` | element type of `gradient` |
#[derive(Clone, Debug, PartialEq)]
pub struct Conv3dBackwardWeight {
    /// The forward operation.
    pub conv: Conv3d,
    /// `[kt, kh, kw]`.
    pub kernel: [usize; 3],
}

impl Operation for Conv3dBackwardWeight {
    const NAME: &'static str = "conv3d_backward_weight";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 2)?;
        let (video, gradient) = (check::need(op, inputs, 0, "video")?, check::need(op, inputs, 1, "gradient")?);
        check::float(op, gradient, "gradient")?;
        if video.dtype() != DType::U8 {
            check::dtype(op, video, "video", gradient.dtype())?;
        }
        check::rank(op, video, "video", 5, "[B, T, H, W, C]")?;
        check::rank(op, gradient, "gradient", 5, "[B, T', H', W', O]")?;
        let (v, g) = (video.shape(), gradient.shape());
        self.conv.fits(op, v, self.kernel, g)?;
        let [kt, kh, kw] = self.kernel;
        Ok(vec![Spec::new(gradient.dtype(), &[g[4], kt, kh, kw, v[4] / self.conv.groups])?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        let positions: u128 = inputs[1].map_or(0, |g| g.shape()[..4].iter().product::<usize>()) as u128;
        (2 * positions * outputs[0].shape.elements() as u128, 0)
    }
}

impl Conv3d {
    /// An error unless this convolution takes a video of shape `v` with a kernel to a result of shape `g`.
    pub(super) fn fits(&self, op: &'static str, v: &[usize], kernel: [usize; 3], g: &[usize]) -> Result<()> {
        let misfit = || Error::shape(op, format!("video {v:?}, kernel {kernel:?}, gradient {g:?}, {self:?}"));
        let normalised = self.scale.len() == self.shift.len() && (self.scale.is_empty() || self.scale.len() == v[4]);
        let grouped = self.groups != 0 && v[4].is_multiple_of(self.groups) && g[4].is_multiple_of(self.groups);
        if !normalised || !grouped || self.stride.contains(&0) || kernel.contains(&0) || v[0] != g[0] {
            return Err(misfit());
        }
        let same = (0..3).all(|axis| self.tubes(axis, v[1 + axis], kernel[axis]) == Some(g[1 + axis]));
        if same { Ok(()) } else { Err(misfit()) }
    }
}

/// See [`Conv3dBackwardWeight`].
pub fn conv3d_backward_weight(op: Conv3dBackwardWeight, video: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(video), Some(gradient)])
}
