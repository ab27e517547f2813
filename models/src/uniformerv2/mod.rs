//! UniFormerV2: an image backbone, CLIP's by default, local temporal blocks in it, and global blocks beside it (Li et al., 2022).
//!
//! The backbone attends within frames. A local block mixes time by a depthwise 3×1×1 convolution between two linear layers (equation 4). A
//! global block gathers all tokens of the clip into one video token by cross-attention (equations 7 to 10) and leaves the backbone's stream as
//! it is. The head sees the video token and the mean of the frames' class tokens, mixed by a learned gate.

mod blocks;
mod local;
mod names;
mod presets;

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    Error, Function, Operand, Result, Tensor,
    ops::{
        binary::{Operator, add, binary, mul},
        concat::concat,
        conv3d::{Conv3d, conv3d},
        reduce::{Reduction, reduce},
        unary::unary,
    },
};

pub use names::{from_official, namings};
pub use presets::presets;

use crate::{
    Depth, Pass,
    attention::RelativePositions,
    layers::{BlockConfig, LayerNorm, Linear},
    model::{Activation, Dataset, Input, Model, Outline, check_scale},
    params::{Init, Params},
    rollout::{Cell, Step},
};
use blocks::{GlobalBlock, LocalBlock};

/// Of the norms outside of the backbone.
const EPS: f32 = 1e-5;

/// The image model that the backbone is: what sets its stem and its blocks apart (paper, table 5). Nothing of the other models than CLIP's was
/// released; the local and global blocks and the head stay as they are with CLIP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Activation of the MLPs.
    pub activation: Activation,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Whether the patch projection has a bias.
    pub patch_bias: bool,
    /// A norm before the first layer.
    pub pre_norm: bool,
    /// Whether the class token has a row in the position table.
    pub class_position: bool,
    /// Whether what attention and MLP add is scaled channel by channel.
    pub layer_scale: bool,
    /// Whether there is a position table at all.
    #[serde(default = "yes")]
    pub absolute_positions: bool,
    /// Whether attention adds a learned bias for each pair of tokens, by their relative position.
    #[serde(default)]
    pub relative_positions: bool,
}

impl Backbone {
    /// CLIP's visual tower.
    pub const CLIP: Backbone = Backbone {
        activation: Activation::GeluQuick,
        eps: 1e-5,
        patch_bias: false,
        pre_norm: true,
        class_position: true,
        layer_scale: false,
        absolute_positions: true,
        relative_positions: false,
    };
    /// A plain vision transformer: ViT of ImageNet-21k, DINO, MAE.
    pub const VIT: Backbone =
        Backbone { activation: Activation::GeluErf, eps: 1e-6, patch_bias: true, pre_norm: false, ..Backbone::CLIP };
    /// DeiT III.
    pub const DEIT3: Backbone = Backbone { class_position: false, layer_scale: true, ..Backbone::VIT };
    /// BEiT (Bao et al., 2022).
    pub const BEIT: Backbone =
        Backbone { layer_scale: true, absolute_positions: false, relative_positions: true, ..Backbone::VIT };

    fn clip() -> Backbone {
        Backbone::CLIP
    }
}

/// What a local block is (table 2a). Of temporal attention and temporal convolution the paper gives no more than the names; what they are here is
/// a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalKind {
    /// Batch norm, linear layer down, depthwise convolution over time, linear layer up.
    #[default]
    Mhra,
    /// The same without a norm, and with GELU after the convolution.
    StAdapter,
    /// Layer norm and attention over all time steps at each place, in full width, with the backbone's number of heads: TimeSformer's, which the
    /// table cites.
    TemporalAttention,
    /// Batch norm, as before the MHRA, and a convolution over three time steps in full width, every channel from all.
    TemporalConvolution,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

/// How the video tokens of several global blocks become one (paper, section 3.3, figure 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// Each block's query is the video token of the one before: the official code.
    Sequential,
    /// Each block has a query of its own; their tokens, concatenated, go through a linear layer.
    Parallel,
    /// Each block has a query of its own, and the video token of the one before among its keys.
    HierarchicalKv,
    /// Each block has a query of its own beside the video token of the one before; the answer to its own query goes on.
    HierarchicalQ,
}

/// Every variant of the paper and of the official configurations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UniformerV2Config {
    /// What to feed it.
    pub input: Input,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Token width.
    pub width: usize,
    /// Layers of the backbone.
    pub layers: usize,
    /// Heads of the backbone.
    pub heads: usize,
    /// The image model that it is; CLIP's if left out.
    #[serde(default = "Backbone::clip")]
    pub backbone: Backbone,
    /// A stem of several frames with stride 2, which halves the time steps.
    pub temporal_downsample: bool,
    /// Frames that such a stem spans: an odd number, 3 in all official configurations.
    pub temporal_kernel: usize,
    /// Local blocks in each layer: none, one before attention, or a second one after it.
    pub local: usize,
    /// The local blocks' width is the token width divided by this, rounded down.
    pub local_reduction: f64,
    /// The layers that have local blocks; all if left out (table 2b).
    #[serde(default)]
    pub local_layers: Option<Vec<usize>>,
    /// What they are (table 2a).
    #[serde(default)]
    pub local_kind: LocalKind,
    /// Whether a dynamic position encoding goes before each (table 2a).
    #[serde(default)]
    pub local_dpe: bool,
    /// The layers after which there is a global block.
    pub global_layers: Vec<usize>,
    /// Heads of the global blocks.
    pub global_heads: usize,
    /// Hidden width of the global blocks' MLP, in token widths.
    pub global_mlp: f64,
    /// Whether a global block begins with a dynamic position encoding (table 3).
    #[serde(default = "yes")]
    pub dpe: bool,
    /// Queries of the global blocks (table 4). Several go with sequential fusion, and the video token is their mean, which the paper leaves open.
    #[serde(default = "one")]
    pub queries: usize,
    /// How video tokens are fused.
    pub fusion: Fusion,
    /// The official frozen variant: the head sees the video token alone.
    pub frozen: bool,
    /// Classes.
    pub classes: usize,
    /// Further data sets that the model is trained on at once, with a head each: `head.fc.NAME` (table 6).
    #[serde(default)]
    pub also: Vec<Dataset>,
}

impl UniformerV2Config {
    fn grid(&self) -> [usize; 3] {
        let [h, w] = self.input.size;
        let time = if self.temporal_downsample { self.input.frames.div_ceil(2) } else { self.input.frames };
        [time, h / self.patch.max(1), w / self.patch.max(1)]
    }

    /// Layers and tokens.
    pub fn outline(&self) -> Outline {
        let [t, h, w] = self.grid();
        Outline { layers: self.layers, tokens: t * (1 + h * w) }
    }

    /// Width of the local blocks: the floor of the quotient as Python computes it, from an exact remainder.
    fn local_width(&self) -> usize {
        let c = self.width as f64;
        ((c - c % self.local_reduction) / self.local_reduction).round() as usize
    }

    /// What a layer of the image model is.
    fn block(&self) -> BlockConfig {
        let Backbone { activation, eps, layer_scale, .. } = self.backbone;
        let (width, heads, function) = (self.width, self.heads, activation.into());
        BlockConfig { width, heads, hidden: 4 * width, eps, function, qkv_bias: true, layer_scale }
    }

    fn validate(&self) -> Result<()> {
        check_scale("uniformerv2", &self.input, self.width, || self.outline())?;
        let [t, h, w] = self.grid();
        let listed =
            |layers: &[usize]| layers.windows(2).all(|w| w[0] < w[1]) && layers.last().is_none_or(|&last| last < self.layers);
        let divides = |heads: usize| heads != 0 && self.width.is_multiple_of(heads);
        let problem = if self.patch == 0 || t * h * w == 0 {
            "the patch does not fit into the input"
        } else if !divides(self.heads) || !divides(self.global_heads) {
            "the width is not divisible by the heads"
        } else if !listed(&self.global_layers) || !self.local_layers.as_deref().is_none_or(listed) {
            "global_layers and local_layers must be increasing layer numbers"
        } else if self.queries == 0 || (self.queries > 1 && self.fusion != Fusion::Sequential) {
            "there must be a query, and several go with sequential fusion alone"
        } else if self.local > 2 || !self.local_reduction.is_finite() || self.local_reduction < 1.0 {
            "local must be 0, 1 or 2, local_reduction at least 1"
        } else if self.temporal_kernel.is_multiple_of(2) || self.temporal_kernel > 255 {
            "temporal_kernel must be odd, and at most 255"
        } else if !self.global_mlp.is_finite() || !(0.0..=64.0).contains(&self.global_mlp) {
            "global_mlp must be in 0..=64"
        } else if self.frozen && self.global_layers.is_empty() {
            "the frozen variant needs a global block"
        } else {
            return Ok(());
        };
        Err(Error::invalid("uniformerv2", format!("{problem}: {self:?}")))
    }

    /// The model with parameters from `params`.
    pub fn build(&self, params: &mut Params<'_>) -> Result<UniformerV2> {
        self.validate()?;
        let (c, [_, h, w]) = (self.width, self.grid());
        let kernel = if self.temporal_downsample { self.temporal_kernel } else { 1 };
        let weight = [c, kernel, self.patch, self.patch, 3];
        let patch = params.prepared("patch_embed.proj.weight", &weight, Init::Xavier, Operand::Conv3dWeight)?;
        let Backbone { patch_bias, pre_norm, class_position, eps, absolute_positions, relative_positions, .. } = self.backbone;
        let bias = patch_bias.then(|| params.tensor("patch_embed.proj.bias", &[c], Init::Zeros)).transpose()?;
        let class = params.tensor("cls_token", &[c], Init::Normal(0.02))?.reshape(&[1, c])?;
        let own = usize::from(class_position);
        let position = if absolute_positions {
            params.tensor("pos_embed", &[own + h * w, c], Init::Normal(0.02))?
        } else {
            Tensor::zeros(params.device(), params.dtype(), &[own + h * w, c])?
        };
        let relative = relative_positions.then(|| RelativePositions::of_patches([h, w])).transpose()?;
        // The class token of every frame carries the same position.
        let class = if class_position { add(&class, &position.narrow(0, 0, 1)?)? } else { class };
        let (class, position) = (class.reshape(&[1, 1, 1, c])?, position.narrow(0, own, h * w)?.contiguous()?);
        let norm_pre = pre_norm.then(|| LayerNorm::load(params, "norm_pre", c, eps)).transpose()?;
        let blocks = (0..self.layers).map(|i| LocalBlock::load(params, i, self, relative.as_ref())).collect::<Result<_>>()?;
        let count = self.global_layers.len();
        let global = (0..count).map(|j| GlobalBlock::load(params, j, self)).collect::<Result<_>>()?;
        let queries = if self.fusion == Fusion::Sequential { count.min(1) } else { count };
        let name = |j: usize| if j == 0 { "global_token".to_owned() } else { format!("global_token.{j}") };
        // Several that start alike would stay alike.
        let init = if self.queries == 1 { Init::Zeros } else { Init::Normal(0.02) };
        let queries = (0..queries).map(|j| params.tensor(&name(j), &[1, 1, self.queries, c], init)).collect::<Result<_>>()?;
        let fuse = match self.fusion {
            Fusion::Parallel if count > 0 => Some(Linear::load(params, "fusion", count * c, c, false)?),
            _ => None,
        };
        let balance = if self.frozen || count == 0 { None } else { Some(params.tensor("balance", &[c], Init::Zeros)?) };
        let gate = balance.map(|b| unary(Function::Sigmoid, &b)).transpose()?;
        let norm = LayerNorm::load(params, "head.norm", c, EPS)?;
        let mut heads = vec![Linear::load(params, "head.fc", c, self.classes, true)?];
        for set in &self.also {
            heads.push(Linear::load(params, &format!("head.fc.{}", set.name), c, set.classes, true)?);
        }
        let config = self.clone();
        Ok(UniformerV2 { config, patch, bias, class, position, norm_pre, blocks, global, queries, fuse, gate, norm, heads })
    }
}

/// A UniFormerV2 with its parameters.
pub struct UniformerV2 {
    config: UniformerV2Config,
    patch: Tensor,
    bias: Option<Tensor>,
    /// `[1, 1, 1, C]`, its position added.
    class: Tensor,
    /// `[H·W, C]`
    position: Tensor,
    norm_pre: Option<LayerNorm>,
    blocks: Vec<LocalBlock>,
    global: Vec<GlobalBlock>,
    /// `[1, 1, queries, C]` each.
    queries: Vec<Tensor>,
    fuse: Option<Linear>,
    /// σ(balance), `[C]`.
    gate: Option<Tensor>,
    norm: LayerNorm,
    heads: Vec<Linear>,
}

impl UniformerV2 {
    /// `[B, T, 1 + H·W, C]`: patches with positions, and a class token in front of every frame.
    fn tokens(&self, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let config = &self.config;
        let (b, [t, h, w], c) = (config.input.check("uniformerv2", video)?, config.grid(), config.width);
        let (step, pad) = if config.temporal_downsample { (2, config.temporal_kernel / 2) } else { (1, 0) };
        let conv = Conv3d { padding: [pad, 0, 0], ..Conv3d::new([step, config.patch, config.patch]) };
        let conv = config.input.normalised(conv, video);
        let bias = self.bias.as_ref();
        let plain = || conv3d(conv.clone(), video, &self.patch, bias, None)?.permute(&[0, 4, 1, 2, 3]);
        pass.record(|| "conv1".into(), plain)?;
        let position = self.position.reshape(&[1, h, w, c])?.broadcast_to(&[t, h, w, c])?;
        let patches = conv3d(conv.clone(), video, &self.patch, bias, Some(&position))?.reshape(&[b, t, h * w, c])?;
        pass.follow(|| {
            let (size, kernel) = (config.input.size, if config.temporal_downsample { config.temporal_kernel } else { 1 });
            let (video, patch) = ([config.input.frames, size[0], size[1]], config.patch);
            Ok(Step::Cells(Cell::grid(video, [t, h, w], [kernel, patch, patch], [step, patch, patch], [-(pad as isize), 0, 0])))
        })?;
        pass.follow(|| Ok(Step::Classes { groups: t, extra: 1, size: h * w }))?;
        let class = self.class.broadcast_to(&[b, t, 1, c])?;
        let tokens = concat(&[&class, &patches], 2)?;
        let tokens = self.norm_pre.as_ref().map_or(Ok(tokens.clone()), |norm| norm.forward(&tokens))?;
        pass.record(|| "ln_pre".into(), || tokens.reshape(&[b * t, 1 + h * w, c]))?;
        Ok(tokens)
    }

    /// The query, and what stands among the keys, of global block `j` after the video token `previous`.
    fn query(&self, j: usize, b: usize, previous: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>)> {
        let (n, c) = (self.config.queries, self.config.width);
        let own = |j: usize| self.queries[j].broadcast_to(&[b, 1, n, c])?.contiguous();
        match (self.config.fusion, previous) {
            (Fusion::Sequential, Some(token)) => Ok((token.clone(), None)),
            (Fusion::HierarchicalKv, Some(token)) => Ok((own(j)?, Some(token.clone()))),
            (Fusion::HierarchicalQ, Some(token)) => Ok((concat(&[token, &own(j)?], 2)?, None)),
            _ => Ok((own(j)?, None)),
        }
    }

    /// The token that the head sees: `(1 − σ(β))·F + σ(β)·mean over time of the class tokens` (equation 13), `[B, C]`.
    fn mixed(&self, video_token: Option<Tensor>, tokens: &Tensor) -> Result<Tensor> {
        let (b, c) = (tokens.shape()[0], self.config.width);
        let classes = || reduce(Reduction::Mean, &tokens.narrow(2, 0, 1)?, &[1, 2]);
        match (video_token, &self.gate) {
            (Some(token), None) => token.reshape(&[b, c]),
            (Some(token), Some(gate)) => {
                let token = token.reshape(&[b, c])?;
                let difference = binary(Operator::Sub, &classes()?, &token)?;
                add(&token, &mul(&difference, gate)?)
            }
            (None, _) => classes(),
        }
    }
}

impl Model for UniformerV2 {
    fn forward(&self, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.forward_for(0, video, pass)
    }

    /// Logits for `classes`, or for data set `dataset − 1` of those that are `also` trained on: `[B, classes]`.
    fn forward_for(&self, dataset: usize, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let head = self.heads.get(dataset).ok_or_else(|| Error::invalid("dataset", format!("no data set {dataset}")))?;
        let mut tokens = self.tokens(video, pass)?;
        let (b, c) = (tokens.shape()[0], self.config.width);
        let mut video_token: Option<Tensor> = None;
        let mut all = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let depth = Depth { layer: i, of: self.blocks.len() };
            tokens = block.forward(&tokens, self.config.grid(), depth, pass)?;
            if let Some(j) = self.config.global_layers.iter().position(|&layer| layer == i) {
                let (query, extra) = self.query(j, b, video_token.as_ref())?;
                let answer = self.global[j].forward(
                    &query,
                    &tokens,
                    extra.as_ref(),
                    self.config.grid(),
                    Depth { layer: j, of: self.global.len() },
                    pass,
                )?;
                // The block's own queries are the last.
                let n = self.config.queries;
                let token = answer.narrow(2, answer.shape()[2] - n, n)?.contiguous()?;
                pass.record(|| format!("dec{j}"), || token.reshape(&[b, n, c])?.permute(&[1, 0, 2]))?;
                all.push(token.clone());
                video_token = Some(token);
            }
        }
        if self.global.is_empty() {
            let s = *tokens.shape();
            pass.follow(|| Ok(Step::read_first(s[1], s[2])))?;
            pass.follow(|| Ok(Step::read_mean(1, 0, s[1])))?;
        }
        if let (Some(token), 2..) = (&video_token, self.config.queries) {
            video_token = Some(reduce(Reduction::Mean, token, &[2])?);
        }
        if let Some(fuse) = &self.fuse {
            video_token = Some(fuse.forward(&concat(&all.iter().collect::<Vec<_>>(), 3)?)?);
        }
        let normed = self.norm.forward(&self.mixed(video_token, &tokens)?)?;
        pass.record(|| "proj_ln".into(), || Ok(normed.clone()))?;
        head.forward(&pass.dropout(|r| r.head_dropout, &normed)?)
    }

    fn input(&self) -> &Input {
        &self.config.input
    }

    fn classes(&self) -> usize {
        self.config.classes
    }

    fn heads(&self) -> Vec<usize> {
        std::iter::once(self.config.classes).chain(self.config.also.iter().map(|set| set.classes)).collect()
    }
}
