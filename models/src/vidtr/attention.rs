//! The ways in which tokens are mixed.

use tubelet_engine::{
    Error, Operand, Result, Tensor,
    ops::{
        attention_topk_std::{AttentionTopkStd, attention_topk_std},
        binary::add,
        concat::concat,
        conv3d::{Conv3d, conv3d},
        gather::gather,
        reduce::{Reduction, reduce},
    },
};

use super::{Mixing, Pool, Pooling, VidTrConfig, sequence_first};
use crate::{
    Depth, Pass,
    attention::{Attention, Qkv, SelfAttention},
    layers::Linear,
    params::{Init, Params},
    rollout::{Hop, Step},
};

/// One layer's attention.
pub(super) struct Mixer {
    mixing: Mixing,
    qkv: Qkv,
    proj: Linear,
    /// The attention over space of `SeparableApart`.
    space: Option<SelfAttention>,
    pool: Option<(Pool, Pooling, Option<Tensor>)>,
    /// `[T, H, W]` of the patches that come in.
    grid: [usize; 3],
    width: usize,
    heads: usize,
    last: bool,
}

impl Mixer {
    pub fn load(
        params: &mut Params<'_>,
        name: &str,
        config: &VidTrConfig,
        mixing: Mixing,
        grid: [usize; 3],
        pool: Option<&Pool>,
        last: bool,
    ) -> Result<Self> {
        let (c, heads) = (config.width, config.heads);
        let qkv = Qkv::load(params, &format!("{name}.attn.qkv"), c, heads, true, last)?;
        let proj = Linear::load(params, &format!("{name}.attn.proj"), c, c, true)?;
        let space = match mixing {
            Mixing::SeparableApart => Some(SelfAttention::load(params, &format!("{name}.attn_space"), c, heads, true)?),
            _ => None,
        };
        let pool = match pool {
            Some(pool) => {
                let weight = match config.pooling {
                    Pooling::Convolution => {
                        let shape = [c, grid[0] / pool.keep, 1, 1, c];
                        Some(params.prepared(&format!("{name}.pool.weight"), &shape, Init::Xavier, Operand::Conv3dWeight)?)
                    }
                    _ => None,
                };
                Some((*pool, config.pooling, weight))
            }
            None => None,
        };
        Ok(Mixer { mixing, qkv, proj, space, pool, grid, width: c, heads, last })
    }

    /// Plain attention along `axis`.
    fn attend(&self, axis: usize, qkv: [&Tensor; 3], pass: &mut Pass) -> Result<Tensor> {
        Attention { scale: self.qkv.scale(), axis, bias: None }.forward(qkv, pass)
    }

    /// `x + attention(y)`, where `y` is `normed`, the normalised `x`, perhaps with positions; pooling layers return fewer tokens, and the last one
    /// those that are read, unless the pass [wants](Pass::wants_all) all.
    pub fn forward(
        &self,
        x: &Tensor,
        normed: Tensor,
        position: Option<&Tensor>,
        depth: Depth,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let y = &position.map(|position| add(&normed, position)).transpose()?.unwrap_or_else(|| normed.clone());
        // As released, joint attention adds positions to queries and keys alone; the shared projection of the others takes them all.
        let values = (self.mixing == Mixing::Joint && position.is_some()).then_some(normed);
        if self.last && !pass.wants_all() && self.mixing != Mixing::SeparableApart {
            return self.read(x, y, values.as_ref(), depth, pass);
        }
        match self.mixing {
            Mixing::Joint => self.whole(x, y, &[2], depth, pass, |[q, k, v], pass| {
                let v = values.as_ref().map_or(Ok(v), |values| self.qkv.forward(values).map(|[_, _, v]| v))?;
                self.attend(2, [&q, &k, &v], pass)
            }),
            Mixing::Separable => self.whole(x, y, &[1, 2], depth, pass, |[q, k, v], pass| {
                let o = self.attend(1, [&q, &k, &v], pass)?;
                self.attend(2, [&q, &k, &o], pass)
            }),
            Mixing::Space => self.whole(x, y, &[2], depth, pass, |[q, k, v], pass| self.attend(2, [&q, &k, &v], pass)),
            Mixing::SeparableApart => {
                let [q, k, v] = self.qkv.forward(y)?;
                let o = self.attend(1, [&q, &k, &v], pass)?.reshape(y.shape())?;
                let space = self.space.as_ref().ok_or_else(|| Error::invalid("vidtr", "no attention over space"))?;
                let (o, time) = (self.proj.forward(&o)?, Hop::new(self.qkv.scale(), 1, &q, &k).mixed());
                pass.branch(x, depth, |pass, residual| space.forward_after(time, &o, 2, residual, pass))
            }
            Mixing::SeparablePatches | Mixing::Axial => self.patches(x, y, depth, pass),
        }
    }

    /// What the last layer makes of the class tokens: the first of all tokens, `[B, 1, 1, C]`, or of every frame, `[B, T, 1, C]`. Attention over time
    /// then looks from the first row, which attention over space reads.
    fn read(&self, x: &Tensor, y: &Tensor, values: Option<&Tensor>, depth: Depth, pass: &mut Pass) -> Result<Tensor> {
        let first = |x: &Tensor, axis: usize| x.narrow(axis, 0, 1);
        let (mixed, x) = if self.mixing == Mixing::Separable {
            let [q, k, v] = self.qkv.of(&first(y, 1)?, y)?;
            let o = self.attend(1, [&q, &k, &v], pass)?;
            (self.attend(2, [&first(&q, 2)?, &first(&k, 1)?, &o], pass)?, first(&first(x, 1)?, 2)?)
        } else {
            let [q, k, v] = self.qkv.of(&first(y, 2)?, y)?;
            let v = values.map_or(Ok(v), |values| self.qkv.of(&first(values, 2)?, values).map(|[_, _, v]| v))?;
            (self.attend(2, [&q, &k, &v], pass)?, first(x, 2)?)
        };
        let mixed = mixed.reshape(x.shape())?;
        pass.branch(&x, depth, |_, residual| self.proj.apply(&mixed, None, residual))
    }

    /// All tokens mixed by `mix` along `axes` in turn, projected, and added to `x`.
    fn whole(
        &self,
        x: &Tensor,
        y: &Tensor,
        axes: &[usize],
        depth: Depth,
        pass: &mut Pass,
        mix: impl Fn([Tensor; 3], &mut Pass) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let [q, k, v] = self.qkv.forward(y)?;
        pass.follow(|| {
            Ok(Step::Attention { hops: axes.iter().map(|&axis| Hop::new(self.qkv.scale(), axis, &q, &k)).collect(), aside: 0 })
        })?;
        let mixed = mix([q, k, v], pass)?.reshape(x.shape())?;
        pass.record(|| format!("layer{}.self_attn", depth.layer), || sequence_first(&self.proj.forward(&mixed)?))?;
        pass.branch(x, depth, |_, residual| self.proj.apply(&mixed, None, residual))
    }

    /// Patches mixed among themselves; the attention's answer to the class token is its own normalised value, as released.
    fn patches(&self, x: &Tensor, y: &Tensor, depth: Depth, pass: &mut Pass) -> Result<Tensor> {
        let (b, [t, h, w], c) = (x.shape()[0], self.grid, self.width);
        let split = |x: &Tensor| x.narrow(2, 1, t * h * w)?.split(2, &[t, h * w])?.reshape(&[b, t, h * w, c]);
        let (mixed, residual) = match self.pool {
            Some((pool, method @ (Pooling::TopkStd | Pooling::TopkStdPaper), _)) => {
                self.topk(&split(x)?, &split(y)?, pool.keep, method == Pooling::TopkStd, depth.layer, pass)?
            }
            _ => (self.grid_attention(&split(y)?, pass)?, split(x)?),
        };
        let kept = mixed.shape()[1];
        let class = |x: &Tensor| x.narrow(2, 0, 1);
        let join = |class: &Tensor, patches: &Tensor| concat(&[class, &patches.reshape(&[b, 1, kept * h * w, c])?], 2);
        let answer = || sequence_first(&join(&class(y)?, &self.proj.forward(&mixed)?)?);
        pass.record(|| format!("layer{}.self_attn", depth.layer), answer)?;
        let patches = pass.branch(&residual, depth, |_, residual| self.proj.apply(&mixed, None, residual))?;
        let class = add(&class(x)?, &class(y)?)?;
        let patches = self.shorten(&patches)?;
        if patches.shape()[1] < kept {
            let by = kept / patches.shape()[1].max(1);
            pass.follow(|| Ok(Step::Shorten { aside: 1, by, places: h * w }))?;
        }
        concat(&[&class, &patches.reshape(&[b, 1, patches.shape()[1] * h * w, c])?], 2)
    }

    /// Time then space, or time, height, width: `[B, T, H·W, C]` to the same.
    fn grid_attention(&self, y: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let (b, [t, h, w], scale) = (y.shape()[0], self.grid, self.qkv.scale());
        let [q, k, v] = self.qkv.forward(y)?;
        let o = self.attend(1, [&q, &k, &v], pass)?;
        let time = Hop::new(scale, 1, &q, &k);
        if self.mixing != Mixing::Axial {
            pass.follow(|| Ok(Step::Attention { hops: vec![time, Hop::new(scale, 2, &q, &k)], aside: 1 }))?;
            return self.attend(2, [&q, &k, &o], pass)?.reshape(y.shape());
        }
        let head = [self.heads, self.width / self.heads];
        let image = |x: &Tensor| x.reshape(&[b * t, h, w, head[0], head[1]]);
        let (q, k) = (image(&q)?, image(&k)?);
        pass.follow(|| {
            let hops = vec![time, Hop::new(scale, 1, &q, &k), Hop::new(scale, 2, &q, &k)];
            Ok(Step::Attention { hops, aside: 1 })
        })?;
        let o = self.attend(1, [&q, &k, &image(&o)?], pass)?;
        self.attend(2, [&q, &k, &o], pass)?.reshape(y.shape())
    }

    /// topK_std pooling: what attention over time and space gives for the kept frames, and the kept part of the residual. Frames are kept for
    /// each head and place apart, so each head's channels of the residual follow their own choice.
    fn topk(
        &self,
        x: &Tensor,
        y: &Tensor,
        keep: usize,
        renormalize: bool,
        i: usize,
        pass: &mut Pass,
    ) -> Result<(Tensor, Tensor)> {
        let (s, scale) = (*x.shape(), self.qkv.scale());
        let [q, k, v] = self.qkv.forward(y)?;
        let op = AttentionTopkStd { scale, keep, renormalize };
        let [o, kept, std] = attention_topk_std(op, &q, &k, &v)?;
        // The official rows are heads, then batch, then place.
        let rows = |x: &Tensor| {
            let n = x.shape()[3] * s[0] * s[2];
            x.permute(&[3, 0, 2, 1])?.contiguous()?.reshape(&[n, x.shape()[1]])
        };
        pass.record(|| format!("layer{i}.kept_frames"), || rows(&kept))?;
        pass.record(|| format!("layer{i}.attn_row_std"), || rows(&std))?;
        let chosen = |x: &Tensor| gather(x, &kept, 1);
        let (kept_q, kept_k) = (chosen(&q)?, chosen(&k)?);
        let o = self.attend(2, [&kept_q, &kept_k, &o], pass)?;
        pass.follow(|| {
            let time = Hop::new(scale, 1, &q, &k).keeping(&kept, renormalize);
            Ok(Step::Attention { hops: vec![time, Hop::new(scale, 2, &kept_q, &kept_k)], aside: 1 })
        })?;
        let shape = [s[0], keep, s[2], s[3]];
        let residual = chosen(&x.split(3, &[self.heads, self.width / self.heads])?)?;
        Ok((o.reshape(&shape)?, residual.reshape(&shape)?))
    }

    /// The uniform poolings: neighbouring frames become one.
    fn shorten(&self, x: &Tensor) -> Result<Tensor> {
        let s = *x.shape();
        match &self.pool {
            Some((pool, Pooling::Average, _)) => reduce(Reduction::Mean, &x.split(1, &[pool.keep, s[1] / pool.keep])?, &[2]),
            Some((pool, Pooling::Convolution, Some(weight))) => {
                let op = Conv3d::new([s[1] / pool.keep, 1, 1]);
                conv3d(op, &x.split(2, &[1, s[2]])?, weight, None, None)?.reshape(&[s[0], pool.keep, s[2], s[3]])
            }
            _ => Ok(x.clone()),
        }
    }
}
