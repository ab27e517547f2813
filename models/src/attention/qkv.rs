//! What makes queries, keys and values.

use tubelet_engine::{Result, Tensor};

use super::heads;
use crate::{
    layers::{Linear, Tokens},
    params::{Init, Params},
};

/// Queries, keys and values of tokens, in heads.
#[derive(Clone, Debug)]
pub struct Qkv {
    projection: Projection,
    width: usize,
    heads: usize,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one in each layer, which is far larger")]
enum Projection {
    /// All three in one product.
    Joint(Linear),
    /// Queries by themselves.
    Apart { queries: Linear, others: Linear },
}

impl Qkv {
    /// `{name}.weight [3·width, width]`, whose rows are queries, keys, values, and its bias. If `apart`, queries can be had [of some](Qkv::of) tokens
    /// and keys and values of all without more work than that: for a last layer.
    pub fn load(params: &mut Params<'_>, name: &str, width: usize, heads: usize, bias: bool, apart: bool) -> Result<Self> {
        if !apart {
            let projection = Projection::Joint(Linear::load(params, name, width, 3 * width, bias)?);
            return Ok(Qkv { projection, width, heads });
        }
        let weight = params.tensor(&format!("{name}.weight"), &[3 * width, width], Init::Xavier)?;
        let bias = bias.then(|| params.tensor(&format!("{name}.bias"), &[3 * width], Init::Zeros)).transpose()?;
        let rows = |first, count| {
            let bias = bias.as_ref().map(|bias| bias.narrow(0, first, count)).transpose()?;
            Linear::from_parameters(params, weight.narrow(0, first, count)?, bias)
        };
        let projection = Projection::Apart { queries: rows(0, width)?, others: rows(width, 2 * width)? };
        Ok(Qkv { projection, width, heads })
    }

    /// Of `y [B, X, Y, C]`: `[B, X, Y, heads, C/heads]` each.
    pub fn forward<'a>(&self, y: impl Into<Tokens<'a>>) -> Result<[Tensor; 3]> {
        let y = y.into();
        match &self.projection {
            Projection::Joint(all) => {
                let qkv = all.forward(y)?;
                Ok([self.part(&qkv, 0)?, self.part(&qkv, 1)?, self.part(&qkv, 2)?])
            }
            Projection::Apart { .. } => self.of(y, y),
        }
    }

    /// Queries of `some` tokens, keys and values of `all`.
    pub fn of<'a>(&self, some: impl Into<Tokens<'a>>, all: impl Into<Tokens<'a>>) -> Result<[Tensor; 3]> {
        let (some, all) = (some.into(), all.into());
        match &self.projection {
            Projection::Joint(_) => {
                let ([q, ..], [_, k, v]) = (self.forward(some)?, self.forward(all)?);
                Ok([q, k, v])
            }
            Projection::Apart { queries, others } => {
                let (q, kv) = (queries.forward(some)?, others.forward(all)?);
                Ok([self.part(&q, 0)?, self.part(&kv, 0)?, self.part(&kv, 1)?])
            }
        }
    }

    fn part(&self, x: &Tensor, part: usize) -> Result<Tensor> {
        heads(x, part, self.width, self.heads)
    }

    /// `1/√D`
    pub fn scale(&self) -> f32 {
        ((self.width / self.heads) as f32).sqrt().recip()
    }
}
