//! VidTr: attention over time, then over space, with one projection for both (Zhang et al., 2021, as released), and its compact form, which
//! drops the frames that say least.

mod attention;
mod names;
mod presets;
mod tokens;

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    Error, Result, Tensor,
    ops::{
        concat::concat,
        reduce::{Reduction, reduce},
    },
};

pub use names::{from_official, naming, namings};
pub use presets::presets;
pub use tokens::Stem;

use crate::{
    Depth, Pass,
    layers::{LayerNorm, Linear, Mlp},
    model::{Activation, Input, Model, Outline, check_scale},
    params::{Init, Params},
    rollout::{Cell, Step},
};
use attention::Mixer;
use tokens::Tokens;

/// What attends to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixing {
    /// Time, then space, over a grid that class tokens enlarge by a row and a column; one projection for both: the released code.
    Separable,
    /// The same with a projection each for time and for space: equations 5 to 8 as they stand in the paper.
    SeparableApart,
    /// Time, then space, over patches alone; the one class token takes no part until the layers after `joint_after`.
    SeparablePatches,
    /// Space alone, over frames that each have a class token; the head sees the mean of these (paper, section 4.2.4 and table 5b, WH).
    Space,
    /// Time, then height, then width, over patches alone.
    Axial,
    /// Every token to every token: the vanilla transformer of section 3.1.
    Joint,
}

/// Where the position embedding is added to the attention's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// In the first layer: VidTr-S and L.
    FirstLayer,
    /// In every layer: VidTr-M (16 frames).
    EveryLayer,
}

/// How a pooling layer shortens time (paper, table 5d).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Frames whose attention varies most, with a second softmax over their rows: the released code.
    TopkStd,
    /// The same without the second softmax: equation 10 as it stands.
    TopkStdPaper,
    /// Means of neighbouring frames.
    Average,
    /// A strided convolution over neighbouring frames.
    Convolution,
}

/// A pooling layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The layer, from 0.
    pub layer: usize,
    /// Frames that are left.
    pub keep: usize,
}

/// Every variant of the paper and of the released code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VidTrConfig {
    /// What to feed it.
    pub input: Input,
    /// What makes the tokens.
    #[serde(default)]
    pub stem: Stem,
    /// `[t, h, w]` of a patch.
    pub patch: [usize; 3],
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
    /// What attends to what.
    pub mixing: Mixing,
    /// With `separable_patches` or `axial`: the last layer that mixes so; those after it are joint.
    pub joint_after: Option<usize>,
    /// Where the position embedding is added.
    pub position: Position,
    /// Pooling layers, in order.
    pub pools: Vec<Pool>,
    /// How they pool.
    pub pooling: Pooling,
    /// Classes.
    pub classes: usize,
}

impl VidTrConfig {
    /// `[T, H, W]` in patches.
    pub fn grid(&self) -> [usize; 3] {
        let [h, w] = self.input.size;
        let [pt, ph, pw] = self.patch.map(|p| p.max(1));
        [self.input.frames / pt, h / ph, w / pw]
    }

    /// Whether class tokens enlarge the grid.
    fn dual(&self) -> bool {
        matches!(self.mixing, Mixing::Separable | Mixing::SeparableApart)
    }

    /// Layers and tokens.
    pub fn outline(&self) -> Outline {
        let [t, h, w] = self.grid();
        let tokens = match self.mixing {
            Mixing::Space => t * (h * w + 1),
            _ if self.dual() => (t + 1) * (h * w + 1),
            _ => t * h * w + 1,
        };
        Outline { layers: self.layers, tokens }
    }

    /// What layer `i` does; joint layers are those after the last pooling layer, or after `joint_after`.
    fn mixing_of(&self, i: usize) -> Mixing {
        let last = self.joint_after.or(self.pools.last().map(|pool| pool.layer));
        if self.merges() && last.is_some_and(|last| i > last) { Mixing::Joint } else { self.mixing }
    }

    /// Whether patches attend apart first and all tokens together later.
    fn merges(&self) -> bool {
        matches!(self.mixing, Mixing::SeparablePatches | Mixing::Axial)
    }

    fn validate(&self) -> Result<()> {
        check_scale("vidtr", &self.input, self.width, || self.outline())?;
        let [t, h, w] = self.grid();
        let mut frames = t;
        let pools_fit = self.pools.iter().all(|pool| {
            let divides = matches!(self.pooling, Pooling::TopkStd | Pooling::TopkStdPaper) || frames % pool.keep.max(1) == 0;
            let fits = pool.keep > 0 && pool.keep <= frames && pool.layer < self.layers && divides;
            frames = pool.keep;
            fits
        });
        let increasing = self.pools.windows(2).all(|w| w[0].layer < w[1].layer);
        let problem = if self.patch.contains(&0) || t * h * w == 0 {
            "the patch does not fit into the input"
        } else if self.stem == Stem::TokensToToken && self.patch != [1, 16, 16] {
            "tokens to token make 1×16×16 pixels a token"
        } else if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            "the width is not divisible by the heads"
        } else if !pools_fit || !increasing {
            "pools must be increasing layers that keep ever fewer frames (whole divisors, unless topk_std)"
        } else if !self.pools.is_empty() && self.position != Position::FirstLayer {
            "pooling goes with positions in the first layer: later ones have other tokens"
        } else if !self.pools.is_empty() && self.mixing != Mixing::SeparablePatches {
            "pooling goes with separable_patches"
        } else if self.merges() && self.mixing_of(self.layers.saturating_sub(1)) != Mixing::Joint {
            "with separable_patches or axial the last layer must be joint (joint_after), or the class token sees no patch"
        } else if self.joint_after.is_some() && !self.merges() {
            "joint_after goes with separable_patches or axial"
        } else {
            return Ok(());
        };
        Err(Error::invalid("vidtr", format!("{problem}: {self:?}")))
    }

    /// The model with parameters from `params`.
    pub fn build(&self, params: &mut Params<'_>) -> Result<VidTr> {
        self.validate()?;
        let (c, [t, h, w]) = (self.width, self.grid());
        let tokens = Tokens::load(params, self)?;
        let mut class = |name: &str, shape: &[usize]| params.tensor(name, shape, Init::Normal(0.02));
        let (classes, position) = if self.mixing == Mixing::Space {
            (vec![class("cls_space", &[1, t, 1, c])?], class("pos_embed", &[1, t, h * w + 1, c])?)
        } else if self.dual() {
            let space = class("cls_space", &[1, t, 1, c])?;
            let time = class("cls_time", &[1, 1, h * w + 1, c])?;
            (vec![time, space], class("pos_embed", &[1, t + 1, h * w + 1, c])?)
        } else {
            (vec![class("cls_token", &[1, 1, 1, c])?], class("pos_embed", &[1, 1, t * h * w + 1, c])?)
        };
        let mut frames = t;
        let mut layers = Vec::new();
        for i in 0..self.layers {
            let pool = self.pools.iter().find(|pool| pool.layer == i);
            layers.push(Layer::load(params, i, self, self.mixing_of(i), [frames, h, w], pool)?);
            frames = pool.map_or(frames, |pool| pool.keep);
        }
        Ok(VidTr {
            config: self.clone(),
            tokens,
            classes,
            position,
            layers,
            norm: LayerNorm::load(params, "norm", c, self.eps)?,
            head: Linear::load(params, "head", c, self.classes, true)?,
        })
    }
}

/// One pre-norm layer.
struct Layer {
    norm1: LayerNorm,
    mixer: Mixer,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Layer {
    fn load(
        params: &mut Params<'_>,
        i: usize,
        config: &VidTrConfig,
        mixing: Mixing,
        grid: [usize; 3],
        pool: Option<&Pool>,
    ) -> Result<Self> {
        let (c, name) = (config.width, format!("blocks.{i}"));
        Ok(Layer {
            norm1: LayerNorm::load(params, &format!("{name}.norm1"), c, config.eps)?,
            mixer: Mixer::load(params, &name, config, mixing, grid, pool, i + 1 == config.layers)?,
            norm2: LayerNorm::load(params, &format!("{name}.norm2"), c, config.eps)?,
            mlp: Mlp::load(params, &format!("{name}.mlp"), c, config.hidden, config.activation.into())?,
        })
    }
}

/// A VidTr with its parameters.
pub struct VidTr {
    config: VidTrConfig,
    tokens: Tokens,
    /// `[cls_time, cls_space]`, or the one class token.
    classes: Vec<Tensor>,
    position: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    head: Linear,
}

/// `[B, X, Y, C]` as the official code has it, `[X·Y, B, C]`.
fn sequence_first(x: &Tensor) -> Result<Tensor> {
    let s = x.shape();
    x.reshape(&[s[0], s[1] * s[2], s[3]])?.permute(&[1, 0, 2])
}

impl VidTr {
    /// `[B, T + 1, H·W + 1, C]`, `[B, T, H·W + 1, C]` without attention over time, or `[B, 1, 1 + T·H·W, C]`.
    fn tokens(&self, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let (config, c) = (&self.config, self.config.width);
        let (b, [t, h, w]) = (config.input.check("vidtr", video)?, config.grid());
        let patches = self.tokens.forward(config, video, pass)?;
        pass.record(|| "conv_stem".into(), || patches.permute(&[0, 4, 1, 2, 3]))?;
        let size = [config.input.frames, config.input.size[0], config.input.size[1]];
        pass.follow(|| Ok(Step::Cells(Cell::grid(size, [t, h, w], config.patch, config.patch, [0; 3]))))?;
        if let [time, space] = self.classes.as_slice() {
            pass.follow(|| Ok(Step::Classes { groups: t, extra: 1, size: h * w }))?;
            pass.follow(|| Ok(Step::Classes { groups: 1, extra: h * w + 1, size: t * (h * w + 1) }))?;
            let patches = patches.reshape(&[b, t, h * w, c])?;
            let rows = concat(&[&space.broadcast_to(&[b, t, 1, c])?, &patches], 2)?;
            return concat(&[&time.broadcast_to(&[b, 1, h * w + 1, c])?, &rows], 1);
        }
        if config.mixing == Mixing::Space {
            pass.follow(|| Ok(Step::Classes { groups: t, extra: 1, size: h * w }))?;
            let patches = patches.reshape(&[b, t, h * w, c])?;
            return concat(&[&self.classes[0].broadcast_to(&[b, t, 1, c])?, &patches], 2);
        }
        pass.follow(|| Ok(Step::Classes { groups: 1, extra: 1, size: t * h * w }))?;
        let patches = patches.reshape(&[b, 1, t * h * w, c])?;
        concat(&[&self.classes[0].broadcast_to(&[b, 1, 1, c])?, &patches], 2)
    }
}

impl Model for VidTr {
    fn forward(&self, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let mut x = self.tokens(video, pass)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let position = (i == 0 || self.config.position == Position::EveryLayer).then_some(&self.position);
            let depth = Depth { layer: i, of: self.layers.len() };
            x = layer.mixer.forward(&x, layer.norm1.forward(&x)?, position, depth, pass)?;
            x = pass.branch(&x, depth, |pass, residual| layer.mlp.forward(layer.norm2.of(&x), residual, pass))?;
            pass.record(|| format!("layer{i}"), || sequence_first(&x))?;
        }
        if pass.is_watched() {
            let normed = self.norm.forward(&x)?;
            pass.record(|| "norm".into(), || sequence_first(&normed))?;
        }
        let s = *x.shape();
        if self.config.mixing == Mixing::Space {
            pass.follow(|| Ok(Step::read_first(s[1], s[2])))?;
            pass.follow(|| Ok(Step::read_mean(1, 0, s[1])))?;
            let classes = self.norm.forward(&x.narrow(2, 0, 1)?.contiguous()?)?;
            let read = reduce(Reduction::Mean, &classes, &[1, 2])?;
            return self.head.forward(&pass.dropout(|r| r.head_dropout, &read)?);
        }
        // The first token of all is the one that is classified.
        pass.follow(|| Ok(Step::read_first(1, s[1] * s[2])))?;
        let (b, c) = (s[0], self.config.width);
        let class = x.narrow(1, 0, 1)?.narrow(2, 0, 1)?.contiguous()?.reshape(&[b, c])?;
        self.head.forward(&pass.dropout(|r| r.head_dropout, &self.norm.forward(&class)?)?)
    }

    fn input(&self) -> &Input {
        &self.config.input
    }

    fn classes(&self) -> usize {
        self.config.classes
    }
}
