//! The local and the global block.

use tubelet_engine::{
    Function, Result, Tensor,
    ops::{
        attention::attention,
        binary::{Operator, add, binary, mul},
        concat::concat,
        conv3d_depthwise::{Conv3dDepthwise, conv3d_depthwise},
        gemm::linear,
        unary::unary,
    },
};

use super::{EPS, LocalKind, UniformerV2Config};
use crate::{
    Depth, Pass,
    layers::{Block, LayerNorm, Linear, Mlp, heads},
    params::{Init, Params},
    rollout::{Hop, Step},
};

/// `[B, T, 1 + H·W, C]` without the class tokens, as `[B, T, H, W, C]`.
fn patches(tokens: &Tensor, [_, h, w]: [usize; 3]) -> Result<Tensor> {
    tokens.narrow(2, 1, h * w)?.split(2, &[h, w])
}

/// The class tokens of `tokens` in front of `patches`.
fn with_classes(tokens: &Tensor, patches: &Tensor) -> Result<Tensor> {
    let s = tokens.shape();
    concat(&[&tokens.narrow(2, 0, 1)?, &patches.reshape(&[s[0], s[1], s[2] - 1, s[3]])?], 2)
}

/// Dynamic position encoding: a depthwise convolution over 3×3×3 patches (equation 8).
struct Dpe {
    weight: Tensor,
    bias: Tensor,
}

impl Dpe {
    /// `{name}.dpe.dw`, if it is wanted.
    fn load(params: &mut Params<'_>, name: &str, width: usize, wanted: bool) -> Result<Option<Self>> {
        if !wanted {
            return Ok(None);
        }
        let weight = params.tensor(&format!("{name}.dpe.dw.weight"), &[3, 3, 3, width], Init::Xavier)?;
        Ok(Some(Dpe { weight, bias: params.tensor(&format!("{name}.dpe.dw.bias"), &[width], Init::Zeros)? }))
    }

    /// `residual + dpe(x)` for `x [B, T, H, W, C]`.
    fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        conv3d_depthwise(Conv3dDepthwise { padding: [1; 3] }, x, &self.weight, Some(&self.bias), residual)
    }
}

/// Local temporal MHRA: batch norm, a linear layer down, a depthwise convolution over three time steps, a linear layer up (equation 4); or the
/// ST-Adapter that it is compared with, which has an activation after the convolution and no norm.
struct LocalMhra {
    dpe: Option<Dpe>,
    /// Absent where it is folded into `reduce`, and in an ST-Adapter.
    norm: Option<BatchNorm>,
    reduce: Linear,
    weight: Tensor,
    bias: Tensor,
    function: Option<Function>,
    expand: Linear,
}

impl LocalMhra {
    fn load(params: &mut Params<'_>, name: &str, config: &UniformerV2Config) -> Result<Self> {
        let (width, reduced) = (config.width, config.local_width());
        let dpe = Dpe::load(params, name, width, config.local_dpe)?;
        let (norm, reduce, function) = match config.local_kind {
            LocalKind::Mhra => {
                let (norm, reduce) = LocalMhra::load_normed(params, name, width, reduced)?;
                (norm, reduce, None)
            }
            LocalKind::StAdapter => {
                let reduce = Linear::load(params, &format!("{name}.reduce"), width, reduced, true)?;
                (None, reduce, Some(Function::GeluErf))
            }
        };
        Ok(LocalMhra {
            dpe,
            norm,
            reduce,
            weight: params.tensor(&format!("{name}.dw.weight"), &[3, 1, 1, reduced], Init::Xavier)?,
            bias: params.tensor(&format!("{name}.dw.bias"), &[reduced], Init::Zeros)?,
            function,
            expand: Linear::load(params, &format!("{name}.expand"), reduced, width, true)?,
        })
    }

    /// The batch norm and the linear layer down, or the one that both are.
    fn load_normed(params: &mut Params<'_>, name: &str, width: usize, reduced: usize) -> Result<(Option<BatchNorm>, Linear)> {
        let [gamma, beta] = [("weight", Init::Ones), ("bias", Init::Zeros)]
            .map(|(part, init)| params.tensor(&format!("{name}.norm.{part}"), &[width], init));
        let [mean, var] = [("mean", Init::Zeros), ("var", Init::Ones)]
            .map(|(part, init)| params.buffer(&format!("{name}.norm.{part}"), &[width], init));
        let weight = params.tensor(&format!("{name}.reduce.weight"), &[reduced, width], Init::Xavier)?;
        let bias = params.tensor(&format!("{name}.reduce.bias"), &[reduced], Init::Zeros)?;
        let norm = BatchNorm { name: format!("{name}.norm"), gamma: gamma?, beta: beta?, mean: mean?, var: var? };
        Ok(if params.folds_batch_norms() {
            (None, norm.folded(&weight, &bias)?)
        } else {
            (Some(norm), Linear::new(&weight, Some(bias))?)
        })
    }

    /// `residual + branch(x)` for `x [B, T, H, W, C]`.
    fn forward(&self, x: &Tensor, residual: Option<&Tensor>, pass: &mut Pass) -> Result<Tensor> {
        let op = Conv3dDepthwise { padding: [1, 0, 0] };
        let reduced = match &self.norm {
            Some(norm) => self.reduce.forward(&norm.forward(x, pass)?)?,
            None => self.reduce.forward(x)?,
        };
        let mixed = conv3d_depthwise(op, &reduced, &self.weight, Some(&self.bias), None)?;
        let mixed = self.function.map_or(Ok(mixed.clone()), |function| unary(function, &mixed))?;
        self.expand.apply(&mixed, None, residual)
    }
}

/// Batch norm with running statistics, each `[C]`.
struct BatchNorm {
    name: String,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
}

impl BatchNorm {
    fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        pass.batch_norm(&self.name, EPS, x, [&self.gamma, &self.beta], [&self.mean, &self.var])
    }

    /// The norm and a linear layer as one: `W(γ·(x − μ)/σ + β) + b = (W·γ/σ)x + (W(β − μγ/σ) + b)`, exactly.
    fn folded(&self, weight: &Tensor, bias: &Tensor) -> Result<Linear> {
        let eps = Tensor::full(self.var.device(), self.var.dtype(), &[1], EPS)?;
        let scale = binary(Operator::Div, &self.gamma, &unary(Function::Sqrt, &add(&self.var, &eps)?)?)?;
        let shift = binary(Operator::Sub, &self.beta, &mul(&self.mean, &scale)?)?;
        let shift = shift.reshape(&[1, shift.elements()])?;
        let bias = linear(&shift, weight, Some(bias))?.reshape(bias.shape())?;
        Linear::new(&mul(weight, &scale)?, Some(bias))
    }
}

/// One layer of the backbone: local MHRA, attention within frames, local MHRA, MLP; each residual.
pub(super) struct LocalBlock {
    local: Vec<LocalMhra>,
    /// The image model's.
    block: Block,
}

impl LocalBlock {
    pub fn load(params: &mut Params<'_>, i: usize, config: &UniformerV2Config) -> Result<Self> {
        let name = format!("blocks.{i}");
        let here = config.local_layers.as_ref().is_none_or(|layers| layers.contains(&i));
        let count = if here { config.local } else { 0 };
        let local = (1..=count).map(|n| LocalMhra::load(params, &format!("{name}.local{n}"), config)).collect::<Result<_>>()?;
        Ok(LocalBlock { local, block: Block::load(params, &name, &config.block())? })
    }

    /// `[B, T, 1 + H·W, C]` to the same; class tokens pass the local blocks by.
    pub fn forward(&self, x: &Tensor, grid: [usize; 3], depth: Depth, pass: &mut Pass) -> Result<Tensor> {
        let (s, i) = (*x.shape(), depth.layer);
        // The official layout is [tokens, B·T, C].
        let frames = |x: &Tensor| x.permute(&[2, 0, 1, 3])?.contiguous()?.reshape(&[s[2], s[0] * s[1], s[3]]);
        let local = |n: usize, x: &Tensor, pass: &mut Pass| -> Result<Tensor> {
            let Some(block) = self.local.get(n) else { return Ok(x.clone()) };
            let patches = patches(x, grid)?;
            let patches = match &block.dpe {
                Some(dpe) => dpe.forward(&patches, Some(&patches))?,
                None => patches,
            };
            // In training the branch is watched in a pass of its own, so that its statistics count once.
            let mut aside = pass.aside();
            let branch = || block.forward(&patches, None, &mut aside)?.permute(&[0, 4, 1, 2, 3]);
            pass.record(|| format!("resblock{i}.lmhra{}", n + 1), branch)?;
            let mixed = pass.branch(&patches, depth, |pass, residual| block.forward(&patches, residual, pass))?;
            with_classes(x, &mixed)
        };
        let x = local(0, x, pass)?;
        pass.record(|| format!("resblock{i}.attn"), || frames(&self.block.attend(&x, 2)?))?;
        let x = self.block.mix(&x, 2, depth, pass)?;
        let x = local(1, &x, pass)?;
        let x = self.block.refine(&x, depth, pass)?;
        pass.record(|| format!("resblock{i}"), || frames(&x))?;
        Ok(x)
    }
}

/// Dynamic position encoding on a copy of the tokens, cross-attention of a query over all of them, MLP (equations 7 to 10).
pub(super) struct GlobalBlock {
    dpe: Option<Dpe>,
    norm_query: LayerNorm,
    norm_tokens: LayerNorm,
    query: Linear,
    key_value: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    width: usize,
    heads: usize,
    /// Queries of its own.
    queries: usize,
}

impl GlobalBlock {
    pub fn load(params: &mut Params<'_>, j: usize, config: &UniformerV2Config) -> Result<Self> {
        let (c, name) = (config.width, format!("global.{j}"));
        let weight = params.tensor(&format!("{name}.attn.qkv.weight"), &[3 * c, c], Init::Xavier)?;
        let bias = params.tensor(&format!("{name}.attn.qkv.bias"), &[3 * c], Init::Zeros)?;
        let rows = |low: usize, n: usize| -> Result<Linear> {
            Linear::new(&weight.narrow(0, low, n)?, Some(bias.narrow(0, low, n)?.contiguous()?))
        };
        let hidden = (c as f64 * config.global_mlp).round_ties_even() as usize;
        Ok(GlobalBlock {
            dpe: Dpe::load(params, &name, c, config.dpe)?,
            norm_query: LayerNorm::load(params, &format!("{name}.norm_query"), c, EPS)?,
            norm_tokens: LayerNorm::load(params, &format!("{name}.norm_tokens"), c, EPS)?,
            query: rows(0, c)?,
            key_value: rows(c, 2 * c)?,
            proj: Linear::load(params, &format!("{name}.attn.proj"), c, c, true)?,
            norm2: LayerNorm::load(params, &format!("{name}.norm2"), c, EPS)?,
            mlp: Mlp::load(params, &format!("{name}.mlp"), c, hidden, Function::GeluQuick)?,
            width: c,
            heads: config.global_heads,
            queries: config.queries,
        })
    }

    /// Queries `[B, 1, Q, C]` over tokens `[B, T, 1 + H·W, C]` and, if given, one more token `[B, 1, 1, C]`.
    pub fn forward(
        &self,
        query: &Tensor,
        tokens: &Tensor,
        extra: Option<&Tensor>,
        grid: [usize; 3],
        depth: Depth,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let (s, c) = (*tokens.shape(), self.width);
        let mut context = match &self.dpe {
            Some(dpe) => {
                let patches = patches(tokens, grid)?;
                pass.record(|| format!("dpe{}", depth.layer), || dpe.forward(&patches, None)?.permute(&[0, 4, 1, 2, 3]))?;
                with_classes(tokens, &dpe.forward(&patches, Some(&patches))?)?
            }
            None => tokens.contiguous()?,
        };
        context = context.reshape(&[s[0], 1, s[1] * s[2], c])?;
        if let Some(extra) = extra {
            context = concat(&[extra, &context], 2)?;
        }
        let key_value = self.key_value.forward(&self.norm_tokens.forward(&context)?)?;
        let q = heads(&self.query.forward(&self.norm_query.forward(query)?)?, 0, c, self.heads)?;
        let [k, v] = [0, 1].map(|part| heads(&key_value, part, c, self.heads));
        let scale = ((c / self.heads) as f32).sqrt().recip();
        let k = k?;
        let hop = || Box::new(Hop::new(scale, 2, &q, &k));
        pass.follow(|| Ok(Step::Query { hop: hop(), extra: usize::from(extra.is_some()), own: self.queries }))?;
        let mixed = attention(scale, 2, &q, &k, &v?)?.reshape(query.shape())?;
        let query = pass.global_branch(query, depth, |_, residual| self.proj.apply(&mixed, None, residual))?;
        let normed = self.norm2.forward(&query)?;
        pass.global_branch(&query, depth, |pass, residual| {
            self.mlp.forward_dropping(|r| r.global_dropout, &normed, residual, pass)
        })
    }
}
