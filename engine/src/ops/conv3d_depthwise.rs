//! Depthwise 3D convolution: the positional encoding (3×3×3) and local temporal MHRA (3×1×1) of UniFormerV2.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Tensor};

/// `y[b, t, h, w, c] = residual[b, t, h, w, c] + bias[c] + Σ weight[i, j, k, c] · x[b, t+i−p₀, h+j−p₁, w+k−p₂, c]`, zero outside,
/// stride 1 (UniFormerV2, equations 4 and 8).
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[B, T, H, W, C]` | any strides |
/// | `weight` | `[kt, kh, kw, C]` | |
/// | `bias` | `[C]` | optional |
/// | `residual` | `[B, T', H', W', C]` | optional, any strides |
/// | result | `[B, T', H', W', C]`, `T' = T + 2·p₀ − kt + 1` | element type of `x` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3dDepthwise {
    /// Zeros on both sides along T, H, W.
    pub padding: [usize; 3],
}

impl Operation for Conv3dDepthwise {
    const NAME: &'static str = "conv3d_depthwise";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 4)?;
        let x = check::need(op, inputs, 0, "x")?;
        let weight = check::need(op, inputs, 1, "weight")?;
        check::float(op, x, "x")?;
        check::dtype(op, weight, "weight", x.dtype())?;
        check::rank(op, x, "x", 5, "[B, T, H, W, C]")?;
        check::rank(op, weight, "weight", 4, "[kt, kh, kw, C]")?;
        let (xs, ws) = (x.shape(), weight.shape());
        let mut out = [xs[0], 0, 0, 0, xs[4]];
        for axis in 0..3 {
            let padded = xs[1 + axis].saturating_add(self.padding[axis].saturating_mul(2));
            let room = padded.saturating_add(1).checked_sub(ws[axis]).filter(|_| ws[axis] > 0);
            out[1 + axis] = room.filter(|_| ws[3] == xs[4]).ok_or_else(|| {
                Error::shape(op, format!("x {xs}, weight {ws}, padding {:?}: expected [kt, kh, kw, {}]", self.padding, xs[4]))
            })?;
        }
        if let Some(bias) = check::optional(inputs, 2) {
            check::dtype(op, bias, "bias", x.dtype())?;
            check::shape(op, bias, "bias", &[xs[4]])?;
        }
        if let Some(residual) = check::optional(inputs, 3) {
            check::dtype(op, residual, "residual", x.dtype())?;
            check::shape(op, residual, "residual", &out)?;
        }
        Ok(vec![Spec::new(x.dtype(), &out)?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        let n = outputs[0].shape.elements() as u128;
        let k = inputs[1].map_or(0, |w| w.shape()[..3].iter().product::<usize>()) as u128;
        (2 * k * n, n * inputs.iter().skip(2).flatten().count() as u128)
    }
}

/// See [`Conv3dDepthwise`].
pub fn conv3d_depthwise(
    op: Conv3dDepthwise,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    run_one(op, &[Some(x), Some(weight), bias, residual])
}
