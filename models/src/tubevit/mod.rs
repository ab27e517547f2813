//! TubeViT: sparse tubes of several shapes, fixed positions at their centres, and a plain vision transformer over all of them (Piergiovanni et
//! al., 2023).
//!
//! At 32×224×224 the paper's tubes give 2·7·7 + 3·7·7 + 2·7·7 + 14·14 = **539** tokens. The paper says 559. No rule of padding, offset or grouping
//! gives that: every grid is 7×7 or 14×14, so every sum is a multiple of 49, and 559 = 11·49 + 20. The tokeniser was never released; 539 is what
//! the shapes, strides and offsets of the paper's tables say.

mod names;
mod position;
mod presets;

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    Error, Function, Operand, Result, Tensor,
    ops::{
        binary::{add, mul},
        concat::concat,
        conv3d::{Conv3d, conv3d},
        copy::space_to_depth,
        gemm::linear,
        interpolate::{Interpolate, interpolate},
        softmax::softmax,
        unary::unary,
    },
};

pub use names::{from_official, namings};
pub use position::{Centre, Frequencies, Interleaving, Position};
pub use presets::presets;

use crate::{
    Depth, Pass,
    attention::SelfAttention,
    layers::{Block, BlockConfig, LayerNorm, Linear},
    model::{Activation, Dataset, Input, Model, Outline, check_scale},
    params::{Init, Params},
    rollout::{Cell, Step},
};

/// One shape of tube and where its copies lie (paper, table 12 and section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tube {
    /// `[t, h, w]`
    pub kernel: [usize; 3],
    /// Steps along t, h, w.
    pub stride: [usize; 3],
    /// Where the first one starts.
    pub offset: [usize; 3],
    /// Space-to-depth: this many neighbours along t, h, w, at strides as much finer and with channels as many fewer, make one token.
    #[serde(default = "ones")]
    pub space_to_depth: [usize; 3],
}

fn ones() -> [usize; 3] {
    [1; 3]
}

impl Tube {
    /// Tokens along t, h, w of a video `[T, H, W]`; 0 where not even one fits.
    pub fn grid(&self, video: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let blocks = self.space_to_depth[axis].max(1);
            let stride = (self.stride[axis] / blocks).max(1);
            let room = video[axis].checked_sub(self.offset[axis]).and_then(|n| n.checked_sub(self.kernel[axis]));
            room.map_or(0, |room| (room / stride + 1) / blocks)
        })
    }

    /// Voxels of a token along each axis: of space-to-depth tokens those of the whole group.
    pub fn extent(&self) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let blocks = self.space_to_depth[axis].max(1);
            self.kernel[axis] + (blocks - 1) * (self.stride[axis] / blocks)
        })
    }

    /// The voxels of each token of a video `[T, H, W]`.
    fn cells(&self, video: [usize; 3], grid: [usize; 3]) -> Vec<Cell> {
        Cell::grid(video, grid, self.extent(), self.stride, self.offset.map(|x| x as isize))
    }

    /// A kernel `[O, t, h, w, C]` in this tube's size.
    pub fn resized(&self, kernel: &Tensor) -> Result<Tensor> {
        if kernel.shape()[1..4] == self.kernel {
            return Ok(kernel.clone());
        }
        interpolate(Interpolate { size: self.kernel, align_corners: false }, kernel)
    }

    /// Channels before space-to-depth.
    fn channels(&self, width: usize) -> usize {
        width / self.space_to_depth.iter().product::<usize>().max(1)
    }
}

/// Where the tubes' kernels come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Kernels {
    /// Each tube has its own.
    Separate,
    /// One kernel, resized to every tube by trilinear interpolation (section 3.2).
    Interpolated {
        /// `[t, h, w]` of the one.
        size: [usize; 3],
    },
}

/// Image-to-video scaling (section 3.4): the input tokens come in once more, late, through a gate that starts closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Late {
    /// The layer after which `tanh(α)·z⁰` is added.
    pub layer: usize,
}

/// Every variant of the paper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TubeVitConfig {
    /// What to feed it; an image (one frame) goes through the tubes of one frame alone.
    pub input: Input,
    /// The tubes, in the order of their tokens.
    pub tubes: Vec<Tube>,
    /// Where their kernels come from.
    pub kernels: Kernels,
    /// Their positions.
    pub position: Position,
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
    /// A class token in front (the third-party code has one, the paper none).
    pub class_token: bool,
    /// Width of a tanh layer before the head.
    pub representation: Option<usize>,
    /// The gated late connection.
    pub late: Option<Late>,
    /// The layers before whose own attention there is another one, which no image model was trained with (table 8).
    #[serde(default)]
    pub added_attention: Vec<usize>,
    /// The data sets; predictions are for the first, whose head is plainly `head` (section 3.5).
    pub datasets: Vec<Dataset>,
}

impl TubeVitConfig {
    fn video(&self) -> [usize; 3] {
        [self.input.frames, self.input.size[0], self.input.size[1]]
    }

    /// Layers and tokens.
    pub fn outline(&self) -> Outline {
        let tokens = self.tubes.iter().map(|tube| tube.grid(self.video()).iter().product::<usize>()).sum::<usize>();
        Outline { layers: self.layers, tokens: tokens + usize::from(self.class_token) }
    }

    fn validate(&self) -> Result<()> {
        check_scale("tubevit", &self.input, self.width, || self.outline())?;
        let video = self.video();
        let bad_tube = self.tubes.iter().find(|tube| {
            let zero = [tube.kernel, tube.stride, tube.space_to_depth].iter().any(|v| v.contains(&0));
            let blocks: usize = tube.space_to_depth.iter().fold(1, |n, &b| n.saturating_mul(b));
            let divides =
                || (0..3).all(|axis| tube.stride[axis] % tube.space_to_depth[axis] == 0) && self.width.is_multiple_of(blocks);
            zero || !divides() || tube.grid(video).contains(&0)
        });
        let shared = matches!(self.kernels, Kernels::Interpolated { .. });
        let problem = if self.tubes.is_empty() || self.datasets.is_empty() {
            "there must be tubes and data sets".to_owned()
        } else if let Some(tube) = bad_tube {
            format!("{tube:?} does not fit into the input or the width")
        } else if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            "the width is not divisible by the heads".to_owned()
        } else if shared && self.tubes.iter().any(|tube| tube.space_to_depth != ones()) {
            "an interpolated kernel has all channels, so no space_to_depth".to_owned()
        } else if self.added_attention.iter().any(|&layer| layer >= self.layers) {
            "added_attention is before a layer that there is not".to_owned()
        } else if self.late.is_some_and(|late| late.layer >= self.layers) {
            "the late connection is after the last layer".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::invalid("tubevit", format!("{problem}: {self:?}")))
    }

    /// The model with parameters from `params`.
    pub fn build(&self, params: &mut Params<'_>) -> Result<TubeVit> {
        self.validate()?;
        let c = self.width;
        let (tubes, kernel) = self.load_tubes(params)?;
        let class = if self.class_token { Some(params.tensor("cls_token", &[1, 1, 1, c], Init::Normal(0.02))?) } else { None };
        let rows = self.outline().tokens;
        let position = match self.position {
            Position::Stored => params.buffer("pos_embed", &[1, 1, rows, c], Init::Normal(0.02))?,
            Position::Learned => params.tensor("pos_embed", &[1, 1, rows, c], Init::Normal(0.02))?,
            Position::Fixed { .. } | Position::None | Position::Relative => {
                self.position.table(self, params, &self.tubes, self.video())?
            }
        };
        let block = BlockConfig {
            width: c,
            heads: self.heads,
            hidden: self.hidden,
            eps: self.eps,
            function: self.activation.into(),
            qkv_bias: true,
            layer_scale: false,
        };
        let relative = (self.position == Position::Relative).then(|| self.position.relative(self)).transpose()?;
        let load = |i: usize| -> Result<Layer> {
            let name = format!("blocks.{i}");
            let added = self.added_attention.contains(&i).then(|| Added::load(params, &name, &block)).transpose()?;
            Ok(Layer { added, block: Block::load_with(params, &name, &block, relative.as_ref(), false)? })
        };
        let layers = (0..self.layers).map(load).collect::<Result<_>>()?;
        let gate = match self.late {
            Some(_) => Some(unary(Function::Tanh, &params.tensor("late.alpha", &[1], Init::Zeros)?)?),
            None => None,
        };
        let norm = LayerNorm::load(params, "norm", c, self.eps)?;
        let pool_weight = params.tensor("pooling.weight", &[1, c], Init::Xavier)?;
        let pool_bias = params.tensor("pooling.bias", &[1], Init::Zeros)?;
        let representation = match self.representation {
            Some(width) => Some(Linear::load(params, "pre_logits", c, width, true)?),
            None => None,
        };
        let inputs = self.representation.unwrap_or(c);
        let head = |(i, set): (usize, &Dataset)| {
            let name = if i == 0 { "head".to_owned() } else { format!("head.{}", set.name) };
            Linear::load(params, &name, inputs, set.classes, true)
        };
        let heads = self.datasets.iter().enumerate().map(head).collect::<Result<_>>()?;
        let pooling = (pool_weight, pool_bias);
        Ok(TubeVit { config: self.clone(), tubes, kernel, class, position, layers, gate, norm, pooling, representation, heads })
    }

    /// Weight and bias of each tube, and the kernel that they were interpolated from.
    fn load_tubes(&self, params: &mut Params<'_>) -> Result<(Vec<TubeParameters>, Option<Tensor>)> {
        let c = self.width;
        let Kernels::Interpolated { size: [t, h, w] } = self.kernels else {
            let load = |(i, tube): (usize, &Tube)| {
                let ([t, h, w], o) = (tube.kernel, tube.channels(c));
                let name = format!("tubes.{i}.weight");
                let weight = params.prepared(&name, &[o, t, h, w, 3], Init::Xavier, Operand::Conv3dWeight)?;
                Ok((weight, params.tensor(&format!("tubes.{i}.bias"), &[o], Init::Zeros)?))
            };
            return Ok((self.tubes.iter().enumerate().map(load).collect::<Result<_>>()?, None));
        };
        let weight = params.tensor("tubes.weight", &[c, t, h, w, 3], Init::Xavier)?;
        let bias = params.tensor("tubes.bias", &[self.tubes.len(), c], Init::Zeros)?;
        let resize = |(i, tube): (usize, &Tube)| {
            let prepared = tube.resized(&weight)?.prepare(Operand::Conv3dWeight)?;
            Ok((prepared, bias.narrow(0, i, 1)?.contiguous()?.reshape(&[c])?))
        };
        let tubes = self.tubes.iter().enumerate().map(resize).collect::<Result<_>>()?;
        Ok((tubes, Some(weight)))
    }
}

/// Weight, prepared, and bias of a tube.
type TubeParameters = (Tensor, Tensor);

/// A self-attention of its own, which table 8 adds to an image model.
struct Added {
    norm: LayerNorm,
    attention: SelfAttention,
}

impl Added {
    /// `{name}.added.norm`, `{name}.added.attn`.
    fn load(params: &mut Params<'_>, name: &str, config: &BlockConfig) -> Result<Self> {
        let norm = LayerNorm::load(params, &format!("{name}.added.norm"), config.width, config.eps)?;
        let attention = SelfAttention::load(params, &format!("{name}.added.attn"), config.width, config.heads, config.qkv_bias)?;
        Ok(Added { norm, attention })
    }
}

/// A layer of the transformer.
struct Layer {
    added: Option<Added>,
    block: Block,
}

impl Layer {
    /// `[B, 1, N, C]` to the same.
    fn forward(&self, x: &Tensor, depth: Depth, pass: &mut Pass) -> Result<Tensor> {
        let Some(Added { norm, attention }) = &self.added else { return self.block.forward(x, 2, depth, pass) };
        let x = pass.branch(x, depth, |pass, residual| attention.forward(norm.of(x), 2, residual, pass))?;
        self.block.forward(&x, 2, depth, pass)
    }
}

/// A TubeViT with its parameters.
pub struct TubeVit {
    config: TubeVitConfig,
    /// Weight and bias of each tube.
    tubes: Vec<TubeParameters>,
    /// What interpolated kernels come from.
    kernel: Option<Tensor>,
    class: Option<Tensor>,
    /// `[1, 1, tokens, C]`
    position: Tensor,
    layers: Vec<Layer>,
    /// tanh(α)
    gate: Option<Tensor>,
    norm: LayerNorm,
    /// Weight `[1, C]` and bias of the attention pooling.
    pooling: (Tensor, Tensor),
    representation: Option<Linear>,
    heads: Vec<Linear>,
}

impl TubeVit {
    /// `[B, 1, tokens, C]`: the tubes' tokens in order, without positions. An image passes the tubes of one frame only.
    fn tokens(&self, video: &Tensor, pass: &mut Pass) -> Result<(Tensor, Tensor)> {
        let (config, c) = (&self.config, self.config.width);
        let s = video.shape();
        let image = s.rank() == 5 && s[1] == 1 && config.input.frames != 1;
        if image && config.position == Position::Relative {
            return Err(Error::shape("tubevit", "relative positions are those of a whole video, so no image"));
        }
        let frames = if image { 1 } else { config.input.frames };
        let b = Input { frames, ..config.input.clone() }.check("tubevit", video)?;
        let mut first = usize::from(config.class_token);
        let (mut tokens, mut positions, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for (tube, (weight, bias)) in config.tubes.iter().zip(&self.tubes) {
            let count: usize = tube.grid(config.video()).iter().product();
            if !image || tube.kernel[0] == 1 {
                let blocks = tube.space_to_depth;
                let stride = std::array::from_fn(|axis| tube.stride[axis] / blocks[axis]);
                let conv = config.input.normalised(Conv3d { offset: tube.offset, ..Conv3d::new(stride) }, video);
                let mut x = conv3d(conv, video, weight, Some(bias), None)?;
                if blocks != ones() {
                    for (axis, &block) in blocks.iter().enumerate() {
                        x = x.narrow(1 + axis, 0, x.shape()[1 + axis] / block * block)?;
                    }
                    x = space_to_depth(&x.contiguous()?, blocks)?;
                }
                let grid = [x.shape()[1], x.shape()[2], x.shape()[3]];
                let n: usize = grid.iter().product();
                if pass.is_followed() {
                    cells.extend(tube.cells([frames, s[2], s[3]], grid));
                }
                tokens.push(x.reshape(&[b, 1, n, c])?);
                // An image has the tokens of the first time step.
                positions.push(self.position.narrow(2, first, n.min(count))?);
            }
            first += count;
        }
        if tokens.is_empty() {
            return Err(Error::shape("tubevit", "no tube of one frame takes an image"));
        }
        pass.follow(|| Ok(Step::Cells(cells)))?;
        let join = |all: &[Tensor]| concat(&all.iter().collect::<Vec<_>>(), 2);
        Ok((join(&tokens)?, join(&positions)?))
    }

    /// Weighted sum of the tokens with weights `softmax(w·x + b)`: `[B, 1, N, C]` to `[B, C]`.
    fn pool(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let s = *x.shape();
        let scores = linear(x, &self.pooling.0, Some(&self.pooling.1))?.reshape(&[s[0], 1, s[2]])?;
        let tokens = x.reshape(&[s[0], s[2], s[3]])?.transpose()?;
        let weights = softmax(&scores)?;
        pass.follow(|| Ok(Step::Read { groups: 1, row: weights.to_f32_vec()? }))?;
        linear(&weights, &tokens, None)?.reshape(&[s[0], s[3]])
    }
}

impl Model for TubeVit {
    fn forward(&self, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        self.forward_for(0, video, pass)
    }

    /// Logits of a video or an image (one frame) for data set `dataset` (section 3.5): `[B, classes]`.
    fn forward_for(&self, dataset: usize, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let head = self.heads.get(dataset).ok_or_else(|| Error::invalid("dataset", format!("no data set {dataset}")))?;
        let (tokens, positions) = self.tokens(video, pass)?;
        let sequence = |x: &Tensor| x.reshape(&[x.shape()[0], x.shape()[2], x.shape()[3]]);
        pass.record(|| "tokens".into(), || sequence(&tokens))?;
        if let Some(kernel) = &self.kernel {
            for (i, tube) in self.config.tubes.iter().enumerate() {
                pass.record(|| format!("kernel{i}"), || tube.resized(kernel)?.permute(&[0, 4, 1, 2, 3]))?;
            }
        }
        let mut x = add(&tokens, &positions)?;
        if let Some(class) = &self.class {
            let (class, size) = (add(class, &self.position.narrow(2, 0, 1)?)?, x.shape()[2]);
            pass.follow(|| Ok(Step::Classes { groups: 1, extra: 1, size }))?;
            x = concat(&[&class.broadcast_to(&[x.shape()[0], 1, 1, x.shape()[3]])?, &x], 2)?;
        }
        let first = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, Depth { layer: i, of: self.layers.len() }, pass)?;
            if let (Some(gate), true) = (&self.gate, self.config.late.is_some_and(|late| late.layer == i)) {
                x = add(&x, &mul(&first, gate)?)?;
            }
            pass.record(|| format!("layer{i}"), || sequence(&x))?;
        }
        x = self.norm.forward(&x)?;
        pass.record(|| "encoder_ln".into(), || sequence(&x))?;
        let mut pooled = self.pool(&x, pass)?;
        pass.record(|| "pooled".into(), || Ok(pooled.clone()))?;
        if let Some(representation) = &self.representation {
            pooled = unary(Function::Tanh, &representation.forward(&pooled)?)?;
        }
        head.forward(&pass.dropout(|r| r.head_dropout, &pooled)?)
    }

    fn input(&self) -> &Input {
        &self.config.input
    }

    fn classes(&self) -> usize {
        self.config.datasets[0].classes
    }

    fn heads(&self) -> Vec<usize> {
        self.config.datasets.iter().map(|set| set.classes).collect()
    }
}
