//! Gradients of the depthwise 3D convolution.

use super::{Operation, Spec, check, conv3d_depthwise::Conv3dDepthwise, run};
use crate::{Error, Result, Tensor};

/// `dx[b, t, h, w, c] = Σ weight[i, j, k, c] · gradient[b, t−i+p₀, h−j+p₁, w−k+p₂, c]` and
/// `dweight[i, j, k, c] = Σ gradient[b, t, h, w, c] · x[b, t+i−p₀, h+j−p₁, w+k−p₂, c]`, zero outside.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[B, T, H, W, C]` | any strides |
/// | `weight` | `[kt, kh, kw, C]` | |
/// | `gradient` | `[B, T', H', W', C]` | any strides |
/// | results `dx`, `dweight` | as `x`, `weight` | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3dDepthwiseBackward {
    /// As in the forward pass.
    pub padding: [usize; 3],
}

impl Operation for Conv3dDepthwiseBackward {
    const NAME: &'static str = "conv3d_depthwise_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 3)?;
        let (x, weight) = (check::need(op, inputs, 0, "x")?, check::need(op, inputs, 1, "weight")?);
        let forward = Conv3dDepthwise { padding: self.padding }.infer(&[Some(x), Some(weight)])?;
        let gradient = check::need(op, inputs, 2, "gradient")?;
        check::dtype(op, gradient, "gradient", x.dtype())?;
        let out = forward.first().ok_or_else(|| Error::shape(op, "the convolution has no result"))?;
        check::shape(op, gradient, "gradient", &out.shape)?;
        Ok([x, weight].map(|x| Spec { dtype: x.dtype(), shape: *x.shape() }).to_vec())
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        let (Some(weight), Some(gradient)) = (inputs[1], inputs[2]) else { return (0, 0) };
        (4 * gradient.elements() as u128 * weight.shape()[..3].iter().product::<usize>() as u128, 0)
    }
}

/// `[dx, dweight]`; see [`Conv3dDepthwiseBackward`].
pub fn conv3d_depthwise_backward(
    op: Conv3dDepthwiseBackward,
    x: &Tensor,
    weight: &Tensor,
    gradient: &Tensor,
) -> Result<[Tensor; 2]> {
    let results = run(&op.into(), &[Some(x), Some(weight), Some(gradient)])?;
    results.try_into().map_err(|_| Error::shape(Conv3dDepthwiseBackward::NAME, "expected two results"))
}
