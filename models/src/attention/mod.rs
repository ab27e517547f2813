//! Multi-head attention over a grid of tokens.

mod qkv;
mod relative;

use tubelet_engine::{
    Result, Tensor,
    ops::{
        attention::attention,
        concat::concat,
        gemm::{Gemm, gemm, linear},
        softmax::softmax,
    },
};

pub use qkv::Qkv;
pub use relative::RelativePositions;

use crate::{
    Pass,
    layers::{Linear, Tokens},
    params::Params,
    rollout::{Hop, Step},
};

/// A view of part `part` of `[B, X, Y, parts·C]` as heads: `[B, X, Y, heads, C/heads]`.
pub fn heads(x: &Tensor, part: usize, width: usize, heads: usize) -> Result<Tensor> {
    let last = x.rank() - 1;
    x.narrow(last, part * width, width)?.split(last, &[heads, width / heads.max(1)])
}

/// `dropout(softmax(scale · q·kᵀ + bias))·v` along one axis of a grid of tokens.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Factor of the products of queries and keys.
    pub scale: f32,
    /// The axis of the grid, 1 or 2.
    pub axis: usize,
    /// `[heads, queries, keys]`, added to the scores of every line of the grid.
    pub bias: Option<&'a Tensor>,
}

impl Attention<'_> {
    /// Queries, keys and values `[B, X, Y, heads, D]` to the shape of the queries.
    ///
    /// Without a bias, and where the pass drops no probabilities, this is one fused kernel that stores no score. With either, the matrix of scores
    /// `[B, lines, heads, queries, keys]` is formed: two batches of products with a softmax between them, for the few variants that need it.
    ///
    /// # Errors
    /// Shapes that do not fit together.
    pub fn forward(&self, [q, k, v]: [&Tensor; 3], pass: &mut Pass) -> Result<Tensor> {
        if self.bias.is_none() && !pass.drops(|r| r.attention_dropout) {
            return attention(self.scale, self.axis, q, k, v);
        }
        let (there, back) = if self.axis == 1 { ([0, 2, 3, 1, 4], [0, 3, 1, 2, 4]) } else { ([0, 1, 3, 2, 4], [0, 1, 3, 2, 4]) };
        let (q, k, v) = (q.permute(&there)?, k.permute(&there)?, v.permute(&there)?);
        let (s, keys) = (*q.shape(), k.shape()[3]);
        let all = |bias: &Tensor| bias.broadcast_to(&[s[0], s[1], s[2], s[3], keys]);
        let bias = self.bias.map(all).transpose()?;
        let scores = gemm(Gemm { alpha: self.scale, function: None }, &q, &k, None, bias.as_ref())?;
        let probabilities = pass.dropout(|r| r.attention_dropout, &softmax(&scores)?)?;
        linear(&probabilities, &v.transpose()?, None)?.permute(&back)?.contiguous()
    }
}

/// Multi-head self-attention along one axis of a grid of tokens.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    qkv: Qkv,
    proj: Linear,
    /// `[heads, tokens, tokens]`
    bias: Option<Tensor>,
}

impl SelfAttention {
    /// `{name}.qkv` (rows are queries, keys, values) and `{name}.proj`.
    pub fn load(params: &mut Params<'_>, name: &str, width: usize, heads: usize, qkv_bias: bool) -> Result<Self> {
        SelfAttention::load_with(params, name, [width, heads], qkv_bias, None, false)
    }

    /// As [`SelfAttention::load`], what comes out multiplied by `gamma [width]`, if there is one; `last` where [`SelfAttention::forward_first`] will do.
    pub(crate) fn load_with(
        params: &mut Params<'_>,
        name: &str,
        [width, heads]: [usize; 2],
        qkv_bias: bool,
        gamma: Option<&Tensor>,
        last: bool,
    ) -> Result<Self> {
        let qkv = Qkv::load(params, &format!("{name}.qkv"), width, heads, qkv_bias, last)?;
        let proj = Linear::load_scaled(params, &format!("{name}.proj"), width, width, gamma)?;
        Ok(SelfAttention { qkv, proj, bias: None })
    }

    /// With `bias [heads, tokens, tokens]` added to the scores.
    pub fn with_bias(self, bias: Option<Tensor>) -> Self {
        SelfAttention { bias, ..self }
    }

    /// `residual + proj(attention(x))` for `x [B, X, Y, C]` along `axis` (1 or 2).
    pub fn forward<'a>(
        &self,
        x: impl Into<Tokens<'a>>,
        axis: usize,
        residual: Option<&Tensor>,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let (mixed, hop) = self.mix(x, axis, pass)?;
        pass.follow(|| Ok(Step::Attention { hops: vec![hop], aside: 0 }))?;
        self.proj.apply(&mixed, None, residual)
    }

    /// As [`SelfAttention::forward`], with the first half of the heads attending along axis 1 and the others along axis 2:
    /// the factorised dot-product attention of ViViT's model 4. The number of heads is even.
    ///
    /// # Errors
    /// Shapes that do not fit together.
    pub fn forward_split<'a>(&self, x: impl Into<Tokens<'a>>, residual: Option<&Tensor>, pass: &mut Pass) -> Result<Tensor> {
        let x = x.into();
        let (all, scale) = (self.qkv.forward(x)?, self.qkv.scale());
        let half = all[0].shape()[3] / 2;
        let mut along = |axis: usize| -> Result<_> {
            let part = |x: &Tensor| x.narrow(3, (axis - 1) * half, half);
            let [q, k, v] = [part(&all[0])?, part(&all[1])?, part(&all[2])?];
            let mixed = Attention { scale, axis, bias: None }.forward([&q, &k, &v], pass)?;
            Ok((mixed, Hop::new(scale, axis, &q, &k)))
        };
        let ((time, first), (space, second)) = (along(1)?, along(2)?);
        pass.follow(|| Ok(Step::Beside(vec![first, second])))?;
        self.proj.apply(&concat(&[&time, &space], 3)?.reshape(x.plain().shape())?, None, residual)
    }

    /// As [`SelfAttention::forward`], where no roll-out follows it.
    pub fn forward_aside<'a>(
        &self,
        x: impl Into<Tokens<'a>>,
        axis: usize,
        residual: Option<&Tensor>,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        self.proj.apply(&self.mix(x, axis, pass)?.0, None, residual)
    }

    /// `attention(x)` before its projection, and what it looked at.
    fn mix<'a>(&self, x: impl Into<Tokens<'a>>, axis: usize, pass: &mut Pass) -> Result<(Tensor, Hop)> {
        let x = x.into();
        let [q, k, v] = self.qkv.forward(x)?;
        let (scale, bias) = (self.qkv.scale(), self.bias.as_ref());
        let mixed = Attention { scale, axis, bias }.forward([&q, &k, &v], pass)?;
        Ok((mixed.reshape(x.plain().shape())?, Hop::new(scale, axis, &q, &k).biased(bias)))
    }

    /// As [`SelfAttention::forward`] along axis 2 for the first token of each line alone: `[B, X, 1, C]`.
    pub fn forward_first<'a>(&self, x: impl Into<Tokens<'a>>, residual: Option<&Tensor>, pass: &mut Pass) -> Result<Tensor> {
        let x = x.into();
        let first = x.plain().narrow(2, 0, 1)?;
        let [q, k, v] = self.qkv.of(x.with(&first), x)?;
        let bias = self.bias.as_ref().map(|bias| bias.narrow(1, 0, 1)).transpose()?;
        let mixed = Attention { scale: self.qkv.scale(), axis: 2, bias: bias.as_ref() }.forward([&q, &k, &v], pass)?;
        self.proj.apply(&mixed.reshape(first.shape())?, None, residual)
    }

    /// As [`SelfAttention::forward`] after another attention in the same residual branch, whose look `before` goes on here.
    pub fn forward_after<'a>(
        &self,
        before: Hop,
        x: impl Into<Tokens<'a>>,
        axis: usize,
        residual: Option<&Tensor>,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let (mixed, hop) = self.mix(x, axis, pass)?;
        pass.follow(|| Ok(Step::Attention { hops: vec![before, hop], aside: 0 }))?;
        self.proj.apply(&mixed, None, residual)
    }
}
