//! The layers of ViViT's transformers, one kind for each way to model time.

use tubelet_engine::{Result, Tensor};

use super::{Encoder, Temporal, VivitConfig};
use crate::{
    Depth, Pass,
    attention::SelfAttention,
    layers::{Block, LayerNorm, Mlp},
    params::Params,
};

/// A layer of any kind.
#[allow(clippy::large_enum_variant, reason = "a model has some dozens of layers, in one vector")]
pub(super) enum Layer {
    Plain(Block),
    /// A pre-norm block whose heads are split between time and space.
    DotProduct {
        attention: (LayerNorm, SelfAttention),
        mlp: (LayerNorm, Mlp),
    },
    /// Time and space in either order, MLP; a norm before each.
    Factorised {
        space_first: bool,
        time: (LayerNorm, SelfAttention),
        space: (LayerNorm, SelfAttention),
        mlp: (LayerNorm, Mlp),
    },
}

impl Layer {
    pub(super) fn load(params: &mut Params<'_>, name: &str, config: &VivitConfig, encoder: Encoder, last: bool) -> Result<Self> {
        let c = config.width;
        let attention = |params: &mut Params<'_>, norm: &str, attention: &str| -> Result<_> {
            let norm = LayerNorm::load(params, &format!("{name}.{norm}"), c, config.eps)?;
            Ok((norm, SelfAttention::load(params, &format!("{name}.{attention}"), c, encoder.heads, config.qkv_bias)?))
        };
        let mlp = |params: &mut Params<'_>| -> Result<_> {
            let norm = LayerNorm::load(params, &format!("{name}.norm2"), c, config.eps)?;
            Ok((norm, Mlp::load(params, &format!("{name}.mlp"), c, encoder.hidden, config.activation.into())?))
        };
        Ok(match config.temporal {
            Temporal::Factorised { space_first } => Layer::Factorised {
                space_first,
                time: attention(params, "norm_time", "time")?,
                space: attention(params, "norm_space", "space")?,
                mlp: mlp(params)?,
            },
            Temporal::DotProduct => Layer::DotProduct { attention: attention(params, "norm1", "attn")?, mlp: mlp(params)? },
            _ => Layer::Plain(Block::load_with(params, name, &config.block(encoder), None, last)?),
        })
    }

    /// `[B, X, Y, C]` to the same, or what a last [`Block`] gives.
    pub(super) fn forward(&self, x: &Tensor, depth: Depth, pass: &mut Pass) -> Result<Tensor> {
        match self {
            Layer::Plain(block) => block.forward(x, 2, depth, pass),
            Layer::DotProduct { attention: (norm, attention), mlp } => {
                let x = pass.branch(x, depth, |pass, residual| attention.forward_split(norm.of(x), residual, pass))?;
                pass.branch(&x, depth, |pass, residual| mlp.1.forward(mlp.0.of(&x), residual, pass))
            }
            Layer::Factorised { space_first, time, space, mlp } => {
                let order = if *space_first { [(space, 2), (time, 1)] } else { [(time, 1), (space, 2)] };
                let mut x = x.clone();
                for ((norm, attention), axis) in order {
                    x = pass.branch(&x, depth, |pass, residual| attention.forward(norm.of(&x), axis, residual, pass))?;
                }
                pass.branch(&x, depth, |pass, residual| mlp.1.forward(mlp.0.of(&x), residual, pass))
            }
        }
    }
}
