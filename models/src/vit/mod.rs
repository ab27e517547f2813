//! Image vision transformers: the backbones that the video systems start from (timm's augreg models, CLIP's visual tower, torchvision).

mod names;
mod presets;

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    Error, Operand, Result, Tensor,
    ops::{
        binary::add,
        concat::concat,
        conv3d::{Conv3d, conv3d},
        reduce::{Reduction, reduce},
    },
};

pub use names::{Beit, CLIP, DEIT3, TIMM, from_official, namings};
pub use presets::{presets, size};

use crate::{
    Depth, Pass,
    attention::RelativePositions,
    layers::{Block, BlockConfig, LayerNorm, Linear},
    model::{Activation, Input, Model, Outline, check_scale},
    params::{Init, Params},
    rollout::{Cell, Step},
};

/// What the head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readout {
    /// The class token, after the last norm.
    Token,
    /// The mean of the normalised tokens, the class token left out.
    Average,
    /// The mean of the tokens, likewise, normalised.
    AverageThenNorm,
}

/// An image backbone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// What to feed it: one frame.
    pub input: Input,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Token width.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Hidden width of the MLPs.
    pub hidden: usize,
    /// Activation of the MLPs.
    pub activation: Activation,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Whether there is a class token.
    pub class_token: bool,
    /// Whether the patch projection has a bias (CLIP's has not).
    pub patch_bias: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// A norm before the first layer: CLIP.
    pub pre_norm: bool,
    /// Whether the class token has a row in the position table (DeiT III's has not).
    #[serde(default = "yes")]
    pub class_position: bool,
    /// Whether what attention and MLP add is scaled channel by channel: DeiT III.
    #[serde(default)]
    pub layer_scale: bool,
    /// Whether there is a position table (BEiT has none).
    #[serde(default = "yes")]
    pub absolute_positions: bool,
    /// Whether attention adds a learned bias for each pair of tokens, by their relative position: BEiT.
    #[serde(default)]
    pub relative_positions: bool,
    /// What the head reads.
    pub readout: Readout,
    /// Whether the head has a bias (CLIP's projection has not).
    pub head_bias: bool,
    /// Classes, or the width of CLIP's embedding.
    pub classes: usize,
}

fn yes() -> bool {
    true
}

impl VitConfig {
    fn grid(&self) -> [usize; 2] {
        self.input.size.map(|n| n / self.patch.max(1))
    }

    /// Layers and tokens.
    pub fn outline(&self) -> Outline {
        let [h, w] = self.grid();
        Outline { layers: self.layers, tokens: h * w + usize::from(self.class_token) }
    }

    fn validate(&self) -> Result<()> {
        check_scale("vit", &self.input, self.width, || self.outline())?;
        let [h, w] = self.grid();
        let problem = if self.patch == 0 || h * w == 0 || self.input.frames != 1 {
            "the patch does not fit into one frame of the input"
        } else if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            "the width is not divisible by the heads"
        } else if self.readout == Readout::Token && !self.class_token {
            "reading the class token needs one"
        } else if self.relative_positions && !self.class_token {
            "relative positions go with a class token"
        } else {
            return Ok(());
        };
        Err(Error::invalid("vit", format!("{problem}: {self:?}")))
    }

    /// The model with parameters from `params`.
    pub fn build(&self, params: &mut Params<'_>) -> Result<Vit> {
        self.validate()?;
        let (c, [h, w]) = (self.width, self.grid());
        let block = BlockConfig {
            width: c,
            heads: self.heads,
            hidden: self.hidden,
            eps: self.eps,
            function: self.activation.into(),
            qkv_bias: self.qkv_bias,
            layer_scale: self.layer_scale,
        };
        let shape = [c, 1, self.patch, self.patch, 3];
        let weight = params.prepared("patch_embed.proj.weight", &shape, Init::Xavier, Operand::Conv3dWeight)?;
        let mut optional = |name: &str, wanted: bool, init| wanted.then(|| params.tensor(name, &[c], init)).transpose();
        let bias = optional("patch_embed.proj.bias", self.patch_bias, Init::Zeros)?;
        let class = optional("cls_token", self.class_token, Init::Normal(0.02))?;
        let own = usize::from(self.class_token && self.class_position);
        let table = [1, 1, own + h * w, c];
        let position = self.absolute_positions.then(|| params.tensor("pos_embed", &table, Init::Normal(0.02))).transpose()?;
        let relative = self.relative_positions.then(|| RelativePositions::of_patches([h, w])).transpose()?;
        let pre_norm = if self.pre_norm { Some(LayerNorm::load(params, "norm_pre", c, self.eps)?) } else { None };
        let load = |i: usize| {
            let last = self.readout == Readout::Token && i + 1 == self.layers;
            Block::load_with(params, &format!("blocks.{i}"), &block, relative.as_ref(), last)
        };
        let blocks = (0..self.layers).map(load).collect::<Result<_>>()?;
        let norm = if self.readout == Readout::AverageThenNorm { "fc_norm" } else { "norm" };
        Ok(Vit {
            config: self.clone(),
            weight,
            bias,
            class,
            position,
            pre_norm,
            blocks,
            norm: LayerNorm::load(params, norm, c, self.eps)?,
            head: Linear::load(params, "head", c, self.classes, self.head_bias)?,
        })
    }
}

/// A vision transformer with its parameters.
pub struct Vit {
    config: VitConfig,
    weight: Tensor,
    bias: Option<Tensor>,
    class: Option<Tensor>,
    /// `[1, 1, tokens, C]`, or without the class token's row.
    position: Option<Tensor>,
    pre_norm: Option<LayerNorm>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Model for Vit {
    fn forward(&self, image: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let (config, c) = (&self.config, self.config.width);
        let (b, [h, w]) = (config.input.check("vit", image)?, config.grid());
        let conv = config.input.normalised(Conv3d::new([1, config.patch, config.patch]), image);
        let patches = conv3d(conv, image, &self.weight, self.bias.as_ref(), None)?;
        let sequence = |x: &Tensor| x.reshape(&[b, x.shape()[2], c]);
        let (size, patch) = ([1, config.input.size[0], config.input.size[1]], [1, config.patch, config.patch]);
        pass.follow(|| Ok(Step::Cells(Cell::grid(size, [1, h, w], patch, patch, [0; 3]))))?;
        // CLIP's code is [C, h, w] here and [tokens, B, C] between layers, timm's [B, tokens, C].
        pass.record(|| "conv1".into(), || patches.reshape(&[b, h, w, c])?.permute(&[0, 3, 1, 2]))?;
        pass.record(|| "patch_embed".into(), || patches.reshape(&[b, h * w, c]))?;
        let mut x = patches.reshape(&[b, 1, h * w, c])?;
        if let (Some(position), false) = (&self.position, config.class_position) {
            x = add(&x, position)?;
        }
        if let Some(class) = &self.class {
            x = concat(&[&class.reshape(&[1, 1, 1, c])?.broadcast_to(&[b, 1, 1, c])?, &x], 2)?;
            pass.follow(|| Ok(Step::Classes { groups: 1, extra: 1, size: h * w }))?;
        }
        if let (Some(position), true) = (&self.position, config.class_position) {
            x = add(&x, position)?;
        }
        if let Some(norm) = &self.pre_norm {
            x = norm.forward(&x)?;
        }
        pass.record(|| "ln_pre".into(), || sequence(&x))?;
        pass.record(|| "norm_pre".into(), || sequence(&x))?;
        for (i, block) in self.blocks.iter().enumerate() {
            pass.record(|| format!("block{i}.attn"), || sequence(&block.attend(&x, 2)?))?;
            x = block.forward(&x, 2, Depth { layer: i, of: config.layers }, pass)?;
            pass.record(|| format!("block{i}"), || sequence(&x))?;
            pass.record(|| format!("resblock{i}"), || sequence(&x)?.permute(&[1, 0, 2]))?;
        }
        // timm leaves the class token out of the mean.
        let patches = |x: &Tensor| x.narrow(2, usize::from(config.class_token), h * w);
        pass.follow(|| {
            let class = usize::from(config.class_token);
            Ok(if config.readout == Readout::Token { Step::read_first(1, 1 + h * w) } else { Step::read_mean(1, class, h * w) })
        })?;
        let normed = match config.readout {
            Readout::Token => self.norm.forward(&x.narrow(2, 0, 1)?)?.reshape(&[b, c])?,
            Readout::Average => reduce(Reduction::Mean, &self.norm.forward(&patches(&x)?)?, &[1, 2])?,
            Readout::AverageThenNorm => self.norm.forward(&reduce(Reduction::Mean, &patches(&x)?, &[1, 2])?)?,
        };
        pass.record(|| "ln_post".into(), || Ok(normed.clone()))?;
        let all = || if config.readout == Readout::AverageThenNorm { sequence(&x) } else { sequence(&self.norm.forward(&x)?) };
        pass.record(|| "norm".into(), all)?;
        self.head.forward(&pass.dropout(|r| r.head_dropout, &normed)?)
    }

    fn input(&self) -> &Input {
        &self.config.input
    }

    fn classes(&self) -> usize {
        self.config.classes
    }
}
