//! ViViT: tubelets of a video through a vision transformer (Arnab et al., 2021), and its training with a frozen spatial encoder and an
//! adapter (SFA; "Optimizing ViViT training").
//!
//! The factorised encoder (model 2) runs a spatial transformer on each time step and a temporal one on what it says of them; the joint
//! model (model 1) attends over all tokens; factorised self-attention (model 3) over time and space in turn; factorised
//! dot-product attention (model 4) over time with half of the heads and over space with the others.

mod layer;
mod names;
mod presets;

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    Error, Function, Operand, Result, Tensor,
    ops::{
        binary::add,
        concat::concat,
        conv3d::{Conv3d, conv3d},
        reduce::{Reduction, reduce},
        unary::unary,
    },
};

pub use names::{from_official, namings};
pub use presets::{factorised, presets};

use crate::{
    Depth, Pass,
    layers::{BlockConfig, LayerNorm, Linear, Mlp},
    model::{Activation, Input, Model, Outline, check_scale},
    params::{Init, Params},
    rollout::{Cell, Step},
};
use layer::Layer;

/// The size of a transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoder {
    /// Layers.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Hidden width of the MLPs.
    pub hidden: usize,
}

/// How time is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Temporal {
    /// A transformer over the time steps' tokens: the factorised encoder.
    Encoder {
        /// Layers, `L_t`.
        layers: usize,
        /// Heads.
        heads: usize,
        /// Hidden width of the MLPs.
        hidden: usize,
    },
    /// The mean over time: the paper's baseline.
    Average,
    /// All tokens attend to all: model 1.
    Joint,
    /// Attention over time and over space apart, in every layer: model 3.
    Factorised {
        /// Whether space comes before time.
        #[serde(default)]
        space_first: bool,
    },
    /// One attention in every layer, of whose heads one half attends over time and the other half over space: model 4,
    /// factorised dot-product attention.
    DotProduct,
}

/// What stands between the spatial and the temporal encoder (SFA, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adapter {
    /// Hidden width of the two-layer network.
    pub hidden: usize,
    /// Whether its input is added to its output; with the second layer at zero, training then starts from the model without it.
    pub residual: bool,
}

/// Every variant of the papers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VivitConfig {
    /// What to feed it.
    pub input: Input,
    /// `[t, h, w]` of a tubelet.
    pub tubelet: [usize; 3],
    /// Token width.
    pub width: usize,
    /// The spatial transformer, or the only one.
    pub spatial: Encoder,
    /// How time is modelled.
    pub temporal: Temporal,
    /// Class tokens (else means over tokens).
    pub class_token: bool,
    /// Activation of the MLPs.
    pub activation: Activation,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Epsilon of the norms.
    pub eps: f32,
    /// The adapter of SFA.
    pub adapter: Option<Adapter>,
    /// Width of a tanh layer before the head.
    pub representation: Option<usize>,
    /// Classes.
    pub classes: usize,
}

impl VivitConfig {
    /// `[T, H, W]` in tubelets.
    pub fn grid(&self) -> [usize; 3] {
        let [h, w] = self.input.size;
        let [kt, kh, kw] = self.tubelet.map(|k| k.max(1));
        [self.input.frames / kt, h / kh, w / kw]
    }

    /// Whether the first transformer sees one time step at a time.
    fn per_step(&self) -> bool {
        matches!(self.temporal, Temporal::Encoder { .. } | Temporal::Average)
    }

    /// Whether attention follows the axes of a grid of time and space.
    fn factorised_attention(&self) -> bool {
        matches!(self.temporal, Temporal::Factorised { .. } | Temporal::DotProduct)
    }

    /// Layers and tokens.
    pub fn outline(&self) -> Outline {
        let ([t, h, w], class) = (self.grid(), usize::from(self.class_token));
        let extra = if let Temporal::Encoder { layers, .. } = self.temporal { layers } else { 0 };
        let tokens = if self.per_step() { t * (h * w + class) } else { t * h * w + class };
        Outline { layers: self.spatial.layers.saturating_add(extra), tokens }
    }

    fn validate(&self) -> Result<()> {
        check_scale("vivit", &self.input, self.width, || self.outline())?;
        let [t, h, w] = self.grid();
        let divides = |heads: usize| heads != 0 && self.width.is_multiple_of(heads);
        let temporal_heads = if let Temporal::Encoder { heads, .. } = self.temporal { heads } else { 1 };
        let problem = if self.tubelet.contains(&0) || t * h * w == 0 {
            "the tubelet does not fit into the input"
        } else if !divides(self.spatial.heads) || !divides(temporal_heads) {
            "the width is not divisible by the heads"
        } else if self.adapter.is_some() && !self.per_step() {
            "an adapter stands between two encoders"
        } else if self.factorised_attention() && self.class_token {
            "factorised attention has no class token"
        } else if self.temporal == Temporal::DotProduct && !self.spatial.heads.is_multiple_of(2) {
            "one half of the heads attends over time and the other over space, and their number is odd"
        } else {
            return Ok(());
        };
        Err(Error::invalid("vivit", format!("{problem}: {self:?}")))
    }

    fn block(&self, encoder: Encoder) -> BlockConfig {
        BlockConfig {
            width: self.width,
            heads: encoder.heads,
            hidden: encoder.hidden,
            eps: self.eps,
            function: self.activation.into(),
            qkv_bias: self.qkv_bias,
            layer_scale: false,
        }
    }

    /// The model with parameters from `params`.
    pub fn build(&self, params: &mut Params<'_>) -> Result<Vivit> {
        self.validate()?;
        let (c, [t, h, w], [kt, kh, kw]) = (self.width, self.grid(), self.tubelet);
        let weight = params.prepared("patch_embed.proj.weight", &[c, kt, kh, kw, 3], Init::Xavier, Operand::Conv3dWeight)?;
        let bias = params.tensor("patch_embed.proj.bias", &[c], Init::Zeros)?;
        let tokens = if self.per_step() { h * w } else { t * h * w };
        let spatial = Transformer::load(params, "spatial", self, self.spatial, tokens)?;
        let adapter = match self.adapter {
            Some(adapter) => {
                let last = if adapter.residual { Init::Zeros } else { Init::Xavier };
                Some((adapter, Mlp::load_with(params, "adapter", c, adapter.hidden, Function::GeluTanh, last)?))
            }
            None => None,
        };
        let temporal = match self.temporal {
            Temporal::Encoder { layers, heads, hidden } => {
                Some(Transformer::load(params, "temporal", self, Encoder { layers, heads, hidden }, t)?)
            }
            _ => None,
        };
        let representation = match self.representation {
            Some(width) => Some(Linear::load(params, "pre_logits", c, width, true)?),
            None => None,
        };
        let head = Linear::load(params, "head", self.representation.unwrap_or(c), self.classes, true)?;
        Ok(Vivit { config: self.clone(), weight, bias, spatial, adapter, temporal, representation, head })
    }
}

/// Class token, position, layers, norm.
struct Transformer {
    class: Option<Tensor>,
    /// `[1, 1, tokens, C]`, the class token's first.
    position: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl Transformer {
    fn load(params: &mut Params<'_>, name: &str, config: &VivitConfig, encoder: Encoder, tokens: usize) -> Result<Self> {
        let c = config.width;
        let class = if config.class_token { Some(params.tensor(&format!("{name}.cls_token"), &[c], Init::Zeros)?) } else { None };
        let rows = tokens + usize::from(config.class_token);
        let position = params.tensor(&format!("{name}.pos_embed"), &[1, 1, rows, c], Init::Normal(0.02))?;
        let last = |i: usize| config.class_token && i + 1 == encoder.layers;
        let layer = |i: usize| Layer::load(params, &format!("{name}.blocks.{i}"), config, encoder, last(i));
        let layers = (0..encoder.layers).map(layer).collect::<Result<_>>()?;
        Ok(Transformer { class, position, layers, norm: LayerNorm::load(params, &format!("{name}.norm"), c, config.eps)? })
    }

    /// `[B, X, Y, C]` with class tokens along Y and positions.
    fn embed(&self, x: &Tensor, factorised: bool, pass: &mut Pass) -> Result<Tensor> {
        let s = *x.shape();
        let mut x = x.clone();
        if let Some(class) = &self.class {
            let class = class.reshape(&[1, 1, 1, s[3]])?.broadcast_to(&[s[0], s[1], 1, s[3]])?;
            x = concat(&[&class, &x], 2)?;
            pass.follow(|| Ok(Step::Classes { groups: s[1], extra: 1, size: s[2] }))?;
        }
        // Over a grid of time and space the position has a row for each token of both.
        let position = if factorised { self.position.reshape(&[1, s[1], s[2], s[3]])? } else { self.position.clone() };
        add(&x, &position)
    }

    /// What the class tokens say, or the means of the tokens along the last axis before C: `[B, X, C]`.
    fn read(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let s = x.shape();
        if self.class.is_none() {
            pass.follow(|| Ok(Step::read_mean(s[1], 0, s[2])))?;
            return reduce(Reduction::Mean, &self.norm.forward(x)?, &[2]);
        }
        pass.follow(|| Ok(Step::read_first(s[1], s[2])))?;
        self.norm.forward(&x.narrow(2, 0, 1)?)?.reshape(&[s[0], s[1], s[3]])
    }
}

/// A ViViT with its parameters.
pub struct Vivit {
    config: VivitConfig,
    weight: Tensor,
    bias: Tensor,
    spatial: Transformer,
    adapter: Option<(Adapter, Mlp)>,
    temporal: Option<Transformer>,
    representation: Option<Linear>,
    head: Linear,
}

impl Vivit {
    /// `[B, T, H·W, C]`, or `[B, 1, T·H·W, C]` for joint attention.
    fn tubelets(&self, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let (config, c) = (&self.config, self.config.width);
        let (b, [t, h, w]) = (config.input.check("vivit", video)?, config.grid());
        let conv = config.input.normalised(Conv3d::new(config.tubelet), video);
        let x = conv3d(conv, video, &self.weight, Some(&self.bias), None)?;
        let size = [config.input.frames, config.input.size[0], config.input.size[1]];
        pass.follow(|| Ok(Step::Cells(Cell::grid(size, [t, h, w], config.tubelet, config.tubelet, [0; 3]))))?;
        pass.record(|| "embedding".into(), || Ok(x.clone()))?;
        pass.record(|| "patch_embed".into(), || x.reshape(&[b, t * h * w, c]))?;
        if config.temporal == Temporal::Joint { x.reshape(&[b, 1, t * h * w, c]) } else { x.reshape(&[b, t, h * w, c]) }
    }

    /// Runs the layers; intermediate results under scenic's names, and Hugging Face's for the joint model.
    fn encode(&self, part: &Transformer, name: &str, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let flat = |x: &Tensor| {
            let s = x.shape();
            x.reshape(&[s[0], s[1] * s[2], s[3]])
        };
        let mut x = part.embed(x, self.config.factorised_attention(), pass)?;
        pass.record(|| format!("{name}/posembed_input"), || flat(&x))?;
        pass.record(|| "embeddings".into(), || flat(&x))?;
        for (i, layer) in part.layers.iter().enumerate() {
            x = layer.forward(&x, Depth { layer: i, of: part.layers.len() }, pass)?;
            pass.record(|| format!("{name}/encoderblock_{i}"), || flat(&x))?;
            pass.record(|| format!("layer{i}"), || flat(&x))?;
        }
        pass.record(|| format!("{name}/encoder_norm"), || flat(&part.norm.forward(&x)?))?;
        pass.record(|| "layernorm".into(), || flat(&part.norm.forward(&x)?))?;
        Ok(x)
    }

    /// The time steps' tokens through the adapter: `[B, T, C]` to the same.
    fn adapt(&self, x: Tensor, pass: &mut Pass) -> Result<Tensor> {
        match &self.adapter {
            None => Ok(x),
            Some((adapter, mlp)) => mlp.forward(&x, adapter.residual.then_some(&x), pass),
        }
    }
}

impl Model for Vivit {
    fn forward(&self, video: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let x = self.tubelets(video, pass)?;
        let name = if self.config.per_step() { "SpatialTransformer" } else { "Transformer" };
        let encoded = self.encode(&self.spatial, name, &x, pass)?;
        let (b, c) = (x.shape()[0], self.config.width);
        // [B, T, C]: one token for each time step, or one in all.
        let steps = self.spatial.read(&encoded, pass)?;
        let mut y = match &self.temporal {
            Some(temporal) => {
                let steps = self.adapt(steps, pass)?;
                let t = steps.shape()[1];
                let encoded = self.encode(temporal, "TemporalTransformer", &steps.reshape(&[b, 1, t, c])?, pass)?;
                temporal.read(&encoded, pass)?
            }
            None => self.adapt(steps, pass)?,
        };
        let steps = y.shape()[1];
        if steps > 1 {
            pass.follow(|| Ok(Step::read_mean(1, 0, steps)))?;
        }
        y = if steps == 1 { y.reshape(&[b, c])? } else { reduce(Reduction::Mean, &y, &[1])? };
        if let Some(representation) = &self.representation {
            y = unary(Function::Tanh, &representation.forward(&y)?)?;
        }
        self.head.forward(&pass.dropout(|r| r.head_dropout, &y)?)
    }

    fn input(&self) -> &Input {
        &self.config.input
    }

    fn classes(&self) -> usize {
        self.config.classes
    }
}
