//! A layer of the backbone with its local blocks, and the global block.

use tubelet_engine::{
    Function, Result, Tensor,
    ops::{attention::attention, concat::concat},
};

use super::{
    EPS, UniformerV2Config,
    local::{Dpe, Local},
};
use crate::{
    Depth, Pass,
    attention::{RelativePositions, heads},
    layers::{Block, LayerNorm, Linear, Mlp},
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

/// One layer of the backbone: local MHRA, attention within frames, local MHRA, MLP; each residual.
pub(super) struct LocalBlock {
    local: Vec<Local>,
    /// The image model's.
    block: Block,
}

impl LocalBlock {
    pub fn load(
        params: &mut Params<'_>,
        i: usize,
        config: &UniformerV2Config,
        relative: Option<&RelativePositions>,
    ) -> Result<Self> {
        let name = format!("blocks.{i}");
        let here = config.local_layers.as_ref().is_none_or(|layers| layers.contains(&i));
        let count = if here { config.local } else { 0 };
        let local = (1..=count).map(|n| Local::load(params, &format!("{name}.local{n}"), config)).collect::<Result<_>>()?;
        Ok(LocalBlock { local, block: Block::load_with(params, &name, &config.block(), relative, false)? })
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
        let key_value = self.key_value.forward(self.norm_tokens.of(&context))?;
        let q = heads(&self.query.forward(self.norm_query.of(query))?, 0, c, self.heads)?;
        let [k, v] = [0, 1].map(|part| heads(&key_value, part, c, self.heads));
        let scale = ((c / self.heads) as f32).sqrt().recip();
        let k = k?;
        let hop = || Box::new(Hop::new(scale, 2, &q, &k));
        pass.follow(|| Ok(Step::Query { hop: hop(), extra: usize::from(extra.is_some()), own: self.queries }))?;
        let mixed = attention(scale, 2, &q, &k, &v?)?.reshape(query.shape())?;
        let query = pass.global_branch(query, depth, |_, residual| self.proj.apply(&mixed, None, residual))?;
        pass.global_branch(&query, depth, |pass, residual| {
            self.mlp.forward_dropping(|r| r.global_dropout, self.norm2.of(&query), residual, pass)
        })
    }
}
