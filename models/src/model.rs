//! What all systems have in common: video in, logits out.

use serde::{Deserialize, Serialize};
use tubelet_engine::{DType, Error, Function, Result, Tensor, ops::conv3d::Conv3d};

use crate::Pass;

/// A video classifier.
pub trait Model: Send + Sync {
    /// `video [B, T, H, W, 3]` to logits `[B, classes]`. u8 video is normalised as [`Input`] says, inside the tube convolution; float video
    /// is taken as it is, already normalised. `pass` sees intermediate results under the names, and in the layouts, of the official code.
    fn forward(&self, video: &Tensor, pass: &mut Pass) -> Result<Tensor>;
    /// What to feed it.
    fn input(&self) -> &Input;
    /// The number of classes.
    fn classes(&self) -> usize;
    /// The classes of each head: one for each data set that the model is trained on. [`Model::forward`] is that of the first.
    fn heads(&self) -> Vec<usize> {
        vec![self.classes()]
    }
    /// As [`Model::forward`], with the logits of head `head`.
    ///
    /// # Errors
    /// Those, and a head that is not there.
    fn forward_for(&self, head: usize, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        if head == 0 {
            self.forward(video, pass)
        } else {
            Err(Error::invalid("head", format!("there is one, not number {head}")))
        }
    }
}

/// A data set that a model is trained on, with a head of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Its name, which is part of its head's unless it is the first.
    pub name: String,
    /// Classes.
    pub classes: usize,
}

/// The activation of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `max(x, 0)`: VidTr's released code.
    Relu,
    /// Exact GELU: timm, torchvision.
    GeluErf,
    /// GELU by tanh: Flax's default, ViViT.
    GeluTanh,
    /// `x·σ(1.702x)`: CLIP.
    GeluQuick,
}

impl From<Activation> for Function {
    fn from(activation: Activation) -> Function {
        match activation {
            Activation::Relu => Function::Relu,
            Activation::GeluErf => Function::GeluErf,
            Activation::GeluTanh => Function::GeluTanh,
            Activation::GeluQuick => Function::GeluQuick,
        }
    }
}

/// The size of a model, for tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Transformer layers.
    pub layers: usize,
    /// Tokens of a clip that enter the first layer, class tokens included.
    pub tokens: usize,
}

/// An error for a configuration of `model` that is a slip of the pen, or meant to fill the memory, before anything of it is built. Transformers of
/// the field have some hundred layers at most, widths to 6144 and clips of some ten thousand tokens. `outline` is asked once its factors are small.
pub(crate) fn check_scale(model: &'static str, input: &Input, width: usize, outline: impl FnOnce() -> Outline) -> Result<()> {
    let within = |what: &str, value: usize, limit: usize| {
        if value <= limit { Ok(()) } else { Err(Error::invalid(model, format!("{value} {what}; at most {limit} are taken"))) }
    };
    within("frames", input.frames, 1 << 16)?;
    within("pixels of height", input.size[0], 1 << 14)?;
    within("pixels of width", input.size[1], 1 << 14)?;
    within("channels of a token", width, 1 << 15)?;
    let Outline { layers, tokens } = outline();
    within("layers", layers, 1024)?;
    within("tokens", tokens, 1 << 20)?;
    within("numbers in all tokens of a clip", tokens * width, 1 << 28)
}

/// What a model wants to see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Frames of a clip; 1 for image models.
    pub frames: usize,
    /// Pixels `[H, W]` of a frame.
    pub size: [usize; 2],
    /// Mean of each channel, of pixels scaled to 0…1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, likewise.
    pub std: [f32; 3],
}

/// The named normalisations.
impl Input {
    /// `(mean, std)` of ViViT (scenic, Hugging Face): pixels to −1…1.
    pub const SYMMETRIC: ([f32; 3], [f32; 3]) = ([0.5; 3], [0.5; 3]);
    /// `(mean, std)` of UniFormerV2 (not CLIP's).
    pub const UNIFORMER: ([f32; 3], [f32; 3]) = ([0.45; 3], [0.225; 3]);
    /// `(mean, std)` of VidTr and timm: ImageNet.
    pub const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    /// `(mean, std)` of CLIP.
    pub const CLIP: ([f32; 3], [f32; 3]) = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);

    /// With one of the named normalisations.
    pub fn new(frames: usize, size: [usize; 2], (mean, std): ([f32; 3], [f32; 3])) -> Self {
        Input { frames, size, mean, std }
    }

    /// The operation `conv` with the normalisation that `video` needs: `(x/255 − mean)/std` for u8, none for floats.
    pub fn normalised(&self, conv: Conv3d, video: &Tensor) -> Conv3d {
        if video.dtype() != DType::U8 {
            return conv;
        }
        let scale = self.std.iter().map(|std| 1.0 / (255.0 * std)).collect();
        let shift = self.mean.iter().zip(&self.std).map(|(mean, std)| -mean / std).collect();
        Conv3d { scale, shift, ..conv }
    }

    /// An error unless `video` is `[B, frames, H, W, 3]`; gives B.
    pub fn check(&self, model: &'static str, video: &Tensor) -> Result<usize> {
        let s = video.shape();
        if s.rank() == 5 && s[1..] == [self.frames, self.size[0], self.size[1], 3] {
            return Ok(s[0]);
        }
        let [h, w] = self.size;
        Err(Error::shape(model, format!("video is {s}, expected [B, {}, {h}, {w}, 3]", self.frames)))
    }
}
