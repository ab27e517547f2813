//! Tube convolution: strided 3D convolution of a video into tokens.

use super::{Operation, Spec, check, run_one};
use crate::{DType, Error, Operand, Result, Tensor};

/// `y[b, t, h, w, o] = bias[o] + position[t, h, w, o] + Σ weight[o, i, j, k, c] · v(b, t·s₀+d₀+i−p₀, h·s₁+d₁+j−p₁, w·s₂+d₂+k−p₂, c)`
/// where `v = scale[c]·video + shift[c]` inside the video and 0 in the padding (TubeViT, section 3.1; ViViT, section 3.2).
///
/// | operand | shape | |
/// |---|---|---|
/// | `video` | `[B, T, H, W, C]` | u8 or the weight's type, any strides |
/// | `weight` | `[O, kt, kh, kw, C/groups]` | any strides, or (one group) prepared as [`Operand::Conv3dWeight`] |
/// | `bias` | `[O]` | optional |
/// | `position` | `[T', H', W', O]` | optional |
/// | result | `[B, T', H', W', O]` | element type of `weight` |
///
/// `T' = ⌊(T − d₀ + 2·p₀ − kt) / s₀⌋ + 1`, likewise `H'`, `W'`.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv3d {
    /// Steps between tubes along T, H, W.
    pub stride: [usize; 3],
    /// Where the first tube starts along T, H, W.
    pub offset: [usize; 3],
    /// Zeros on both sides along T, H, W.
    pub padding: [usize; 3],
    /// Channel groups; the depthwise case has an operation of its own.
    pub groups: usize,
    /// Fused normalisation `scale·x + shift` per channel; empty for none.
    pub scale: Vec<f32>,
    /// See `scale`.
    pub shift: Vec<f32>,
}

impl Conv3d {
    /// Plain strided convolution.
    pub fn new(stride: [usize; 3]) -> Self {
        Conv3d { stride, offset: [0; 3], padding: [0; 3], groups: 1, scale: Vec::new(), shift: Vec::new() }
    }

    /// The number of tubes along one axis of `size` with kernel `k`; `None` where not even one fits.
    pub fn tubes(&self, axis: usize, size: usize, k: usize) -> Option<usize> {
        let padded = size.saturating_add(self.padding[axis].saturating_mul(2));
        let room = padded.checked_sub(self.offset[axis])?.checked_sub(k)?;
        Some(room / self.stride[axis] + 1)
    }
}

impl Operation for Conv3d {
    const NAME: &'static str = "conv3d";
    const PREPARED: Option<(usize, Operand)> = Some((1, Operand::Conv3dWeight));

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 4)?;
        let video = check::need(op, inputs, 0, "video")?;
        let weight = check::need(op, inputs, 1, "weight")?;
        check::float(op, weight, "weight")?;
        if video.dtype() != DType::U8 {
            check::dtype(op, video, "video", weight.dtype())?;
        }
        check::rank(op, video, "video", 5, "[B, T, H, W, C]")?;
        check::rank(op, weight, "weight", 5, "[O, kt, kh, kw, C/groups]")?;
        let (v, w) = (video.shape(), weight.shape());
        let fits = self.groups != 0 && v[4] == w[4] * self.groups && w[0].is_multiple_of(self.groups);
        let normalised = self.scale.len() == self.shift.len() && (self.scale.is_empty() || self.scale.len() == v[4]);
        if !fits || !normalised || self.stride.contains(&0) || (self.groups > 1 && weight.prepared().is_some()) {
            return Err(Error::shape(op, format!("video {v}, weight {w}, {self:?}")));
        }
        let mut out = [v[0], 0, 0, 0, w[0]];
        for axis in 0..3 {
            let k = w[1 + axis];
            out[1 + axis] = self.tubes(axis, v[1 + axis], k).filter(|_| k > 0).ok_or_else(|| {
                Error::shape(op, format!("a kernel of weight {w} at offset {:?} does not fit into video {v}", self.offset))
            })?;
        }
        if let Some(bias) = check::optional(inputs, 2) {
            check::dtype(op, bias, "bias", weight.dtype())?;
            check::shape(op, bias, "bias", &[w[0]])?;
        }
        if let Some(position) = check::optional(inputs, 3) {
            check::dtype(op, position, "position", weight.dtype())?;
            check::shape(op, position, "position", &out[1..])?;
        }
        Ok(vec![Spec::new(weight.dtype(), &out)?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        let n = outputs[0].shape.elements() as u128;
        let k: u128 = inputs[1].map_or(0, |w| w.shape()[1..].iter().product::<usize>()) as u128;
        (2 * k * n, n * inputs.iter().skip(2).flatten().count() as u128)
    }
}

/// See [`Conv3d`].
pub fn conv3d(op: Conv3d, video: &Tensor, weight: &Tensor, bias: Option<&Tensor>, position: Option<&Tensor>) -> Result<Tensor> {
    run_one(op, &[Some(video), Some(weight), bias, position])
}
