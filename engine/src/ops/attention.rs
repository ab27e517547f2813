//! Softmax attention along one axis of a grid of tokens: joint, spatial, temporal, and cross attention, by strides.

use super::{Operation, Spec, check};
use crate::{DType, Error, Result, Tensor, ops};

/// `softmax(scale · q·kᵀ) · v` per head, along `axis` of a grid of tokens; the scores are never stored.
///
/// | operand | shape | |
/// |---|---|---|
/// | `q` | `[B, X, Y, heads, D]` | any strides |
/// | `k` | as `q`, but for its size along `axis` | any strides |
/// | `v` | as `k`, but for its head dimension `Dv` | any strides |
/// | result | `[B, X, Y, heads, Dv]` | contiguous: `[B, X·Y, C]` for free |
/// | `lse`, if asked for | `[B, X, Y, heads]` f32 (f64 where `q` is) | log-sum-exp of the scaled scores |
///
/// Tokens `[B, T, N, C]` attend over time with `axis` 1 and over space with `axis` 2; joint attention is a reshape to
/// `[B, 1, T·N, …]` with `axis` 2. VidTr equations 5 to 8; UniFormerV2 equation 9 is the case of one query.
/// With no keys the result is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Usually `D^(-1/2)`.
    pub scale: f32,
    /// 1 for X, 2 for Y.
    pub axis: usize,
    /// Whether to return the log-sum-exp, which a backward pass needs.
    pub lse: bool,
}

impl Operation for Attention {
    const NAME: &'static str = "attention";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 3)?;
        let (q, k, v) = (check::need(op, inputs, 0, "q")?, check::need(op, inputs, 1, "k")?, check::need(op, inputs, 2, "v")?);
        grid(op, self.axis, q, k, v)?;
        let mut out = vec![Spec { dtype: q.dtype(), shape: q.shape().with_tail(1, &[v.shape()[4]])? }];
        if self.lse {
            let dtype = if q.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            out.push(Spec { dtype, shape: q.shape().with_tail(1, &[])? });
        }
        Ok(out)
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        let (Some(q), Some(v)) = (inputs[0], inputs[2]) else { return (0, 0) };
        let scores = (q.elements() / q.shape()[4].max(1)) as u128 * v.shape()[self.axis] as u128;
        (2 * scores * (q.shape()[4] + v.shape()[4]) as u128, 3 * scores)
    }
}

/// Validates `q`, `k`, `v` over a grid of tokens.
pub(super) fn grid(op: &'static str, axis: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<()> {
    for (x, name) in [(q, "q"), (k, "k"), (v, "v")] {
        check::float(op, x, name)?;
        check::dtype(op, x, name, q.dtype())?;
        check::rank(op, x, name, 5, "[B, X, Y, heads, D]")?;
    }
    let (qs, ks, vs) = (q.shape(), k.shape(), v.shape());
    let same = (0..5).all(|d| d == axis || qs[d] == ks[d]) && ks[..4] == vs[..4];
    if !(1..=2).contains(&axis) || !same {
        let message = format!("q {qs}, k {ks}, v {vs} along axis {axis}, expected [B, X, Y, heads, D] and axis 1 or 2");
        return Err(Error::shape(op, message));
    }
    Ok(())
}

/// Without the log-sum-exp; see [`Attention`].
pub fn attention(scale: f32, axis: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    ops::run_one(Attention { scale, axis, lse: false }, &[Some(q), Some(k), Some(v)])
}

/// With the log-sum-exp; see [`Attention`].
pub fn attention_with_lse(scale: f32, axis: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<[Tensor; 2]> {
    let out = ops::run(&Attention { scale, axis, lse: true }.into(), &[Some(q), Some(k), Some(v)])?;
    out.try_into().map_err(|_| Error::shape(Attention::NAME, "expected two results"))
}
