//! How a video becomes a grid of tokens: by patches, or frame by frame by T2T-ViT's tokens-to-token module (Yuan et al., 2021, section 3.1).

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    Error, Function, Operand, Result, Tensor,
    ops::{
        concat::concat,
        conv3d::{Conv3d, conv3d},
    },
};

use super::VidTrConfig;
use crate::{
    Pass,
    attention::{Attention, heads},
    layers::{LayerNorm, Linear, Mlp},
    params::{Init, Params},
};

/// What makes the tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// A convolution over patches that do not overlap.
    #[default]
    Patches,
    /// The tokens-to-token module of T2T-ViT with attention as in T2T-ViTt, on each frame (table 5c; that it is on each frame, and which of the
    /// modules, the paper does not say: a decision).
    TokensToToken,
}

/// Width of the tokens between two soft splits.
const NARROW: usize = 64;
/// Kernel and stride of the soft splits: a stride of 16 in all.
const SPLITS: [[usize; 2]; 3] = [[7, 4], [3, 2], [3, 2]];

/// A stem with its parameters.
#[allow(clippy::large_enum_variant, reason = "a model has one")]
pub(super) enum Tokens {
    Patches { weight: Tensor, bias: Tensor },
    TokensToToken(TokensToToken),
}

impl Tokens {
    pub fn load(params: &mut Params<'_>, config: &VidTrConfig) -> Result<Self> {
        if config.stem == Stem::TokensToToken {
            return Ok(Tokens::TokensToToken(TokensToToken::load(params, config)?));
        }
        let (c, [t, h, w]) = (config.width, config.patch);
        let weight = params.prepared("patch_embed.proj.weight", &[c, t, h, w, 3], Init::Xavier, Operand::Conv3dWeight)?;
        Ok(Tokens::Patches { weight, bias: params.tensor("patch_embed.proj.bias", &[c], Init::Zeros)? })
    }

    /// `video [B, T, H, W, 3]` to tokens `[B, T', H', W', C]`.
    pub fn forward(&self, config: &VidTrConfig, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        match self {
            Tokens::Patches { weight, bias } => {
                let conv = config.input.normalised(Conv3d::new(config.patch), video);
                conv3d(conv, video, weight, Some(bias), None)
            }
            Tokens::TokensToToken(module) => module.forward(config, video, pass),
        }
    }
}

/// Soft splits with a transformer layer after each of the first two, and a projection after the last.
pub(super) struct TokensToToken {
    /// `[3, 1, 1, 1, 3]`: pixels as they are, so that a convolution may normalise them.
    pixels: Tensor,
    layers: [Restructure; 2],
    project: Linear,
}

impl TokensToToken {
    /// `tokens.0`, `tokens.1` and `tokens.project`.
    fn load(params: &mut Params<'_>, config: &VidTrConfig) -> Result<Self> {
        let identity: Vec<f32> = (0..9).map(|i| f32::from(u8::from(i % 4 == 0))).collect();
        let pixels = Tensor::from_f32(params.device(), params.dtype(), &[3, 1, 1, 1, 3], &identity)?;
        let [first, second, last] = SPLITS.map(|[kernel, _]| kernel * kernel);
        Ok(TokensToToken {
            pixels: pixels.prepare(Operand::Conv3dWeight)?,
            layers: [
                Restructure::load(params, "tokens.0", 3 * first, config.eps)?,
                Restructure::load(params, "tokens.1", NARROW * second, config.eps)?,
            ],
            project: Linear::load(params, "tokens.project", NARROW * last, config.width, true)?,
        })
    }

    fn forward(&self, config: &VidTrConfig, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let pixels = conv3d(config.input.normalised(Conv3d::new([1; 3]), video), video, &self.pixels, None, None)?;
        let s = *pixels.shape();
        let mut x = pixels.reshape(&[s[0] * s[1], s[2], s[3], s[4]])?;
        for (layer, split) in self.layers.iter().zip(SPLITS) {
            x = soft_split(&x, split)?;
            let [h, w] = [x.shape()[1], x.shape()[2]];
            x = layer.forward(&x.reshape(&[s[0], s[1], h * w, x.shape()[3]])?, pass)?.reshape(&[s[0] * s[1], h, w, NARROW])?;
        }
        let x = self.project.forward(&soft_split(&x, SPLITS[2])?)?;
        x.reshape(&[s[0], s[1], x.shape()[1], x.shape()[2], x.shape()[3]])
    }
}

/// A transformer layer of one head from wide tokens to narrow ones. What goes around its attention are the values: the tokens have another width.
struct Restructure {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    /// Of the width that comes in, as released.
    scale: f32,
}

impl Restructure {
    fn load(params: &mut Params<'_>, name: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Restructure {
            norm1: LayerNorm::load(params, &format!("{name}.norm1"), width, eps)?,
            qkv: Linear::load(params, &format!("{name}.attn.qkv"), width, 3 * NARROW, false)?,
            proj: Linear::load(params, &format!("{name}.attn.proj"), NARROW, NARROW, true)?,
            norm2: LayerNorm::load(params, &format!("{name}.norm2"), NARROW, eps)?,
            mlp: Mlp::load(params, &format!("{name}.mlp"), NARROW, NARROW, Function::GeluErf)?,
            scale: (width as f32).sqrt().recip(),
        })
    }

    /// `[B, T, N, width]` to `[B, T, N, 64]`.
    fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let qkv = self.qkv.forward(self.norm1.of(x))?;
        let part = |part| heads(&qkv, part, NARROW, 1);
        let values = qkv.narrow(3, 2 * NARROW, NARROW)?;
        let attention = Attention { scale: self.scale, axis: 2, bias: None };
        let mixed = attention.forward([&part(0)?, &part(1)?, &part(2)?], pass)?.reshape(values.shape())?;
        let y = self.proj.apply(&mixed, None, Some(&values))?;
        self.mlp.forward(self.norm2.of(&y), Some(&y), pass)
    }
}

/// Every `kernel × kernel` neighbourhood at `stride`, side by side in the channels (rows, columns, channels): `[N, H, W, C]` to
/// `[N, H', W', kernel²·C]`. Around the image are zeros.
fn soft_split(x: &Tensor, [kernel, stride]: [usize; 2]) -> Result<Tensor> {
    windows(&windows(x, 2, kernel, stride)?, 1, kernel, stride)
}

/// The `kernel` neighbours along one axis, side by side in the channels.
fn windows(x: &Tensor, axis: usize, kernel: usize, stride: usize) -> Result<Tensor> {
    let (mut shape, padding) = (x.shape().to_vec(), (kernel - stride).div_ceil(2));
    let size = shape[axis];
    let room = (size + 2 * padding).checked_sub(kernel);
    let n = room.ok_or_else(|| Error::shape("soft split", format!("{} along axis {axis}, fewer than {kernel}", x.shape())))?
        / stride
        + 1;
    let mut zeros = |n: usize| {
        shape[axis] = n;
        Tensor::zeros(x.device(), x.dtype(), &shape)
    };
    // Long enough for every neighbour of every window to begin a whole stride.
    let padded = concat(&[&zeros(padding)?, x, &zeros(kernel - 1 + n * stride - padding - size)?], axis)?;
    let neighbour = |k: usize| padded.narrow(axis, k, n * stride)?.split(axis, &[n, stride])?.narrow(axis + 1, 0, 1);
    let all = (0..kernel).map(neighbour).collect::<Result<Vec<_>>>()?;
    let joined = concat(&all.iter().collect::<Vec<_>>(), x.rank())?;
    let mut shape = x.shape().to_vec();
    (shape[axis], shape[x.rank() - 1]) = (n, kernel * shape[x.rank() - 1]);
    joined.reshape(&shape)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tubelet_engine::{DType, Device};

    use super::*;

    #[test]
    fn soft_splits_are_neighbourhoods() {
        let [h, w, c] = [9usize, 6, 2];
        let at = |y: isize, x: isize, c: usize| {
            let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
            if inside { 1.0 + (y * 100 + x * 10) as f32 + c as f32 } else { 0.0 }
        };
        let image: Vec<f32> = (0..h * w * c).map(|i| at((i / (w * c)) as isize, (i / c % w) as isize, i % c)).collect();
        let image = Tensor::from_f32(&Device::reference(), DType::F32, &[1, h, w, c], &image).unwrap();
        for [kernel, stride] in SPLITS {
            let padding = (kernel - stride).div_ceil(2);
            let got = soft_split(&image, [kernel, stride]).unwrap();
            let [rows, columns] = [h, w].map(|n| (n + 2 * padding - kernel) / stride + 1);
            assert_eq!(**got.shape(), [1, rows, columns, kernel * kernel * c]);
            for (i, value) in got.to_f32_vec().unwrap().into_iter().enumerate() {
                let (channel, dx, dy) = (i % c, i / c % kernel, i / (c * kernel) % kernel);
                let place = i / (c * kernel * kernel);
                let (y, x) = (place / columns * stride + dy, place % columns * stride + dx);
                assert_eq!(value, at(y as isize - padding as isize, x as isize - padding as isize, channel));
            }
        }
        assert!(soft_split(&image.narrow(2, 0, 2).unwrap(), [7, 4]).is_err());
    }
}
