//! Temporal attention that keeps the most informative frames: VidTr's topK_std pooling.

use super::{Operation, Spec, attention::grid, check};
use crate::{DType, Error, Result, Tensor, ops};

/// Temporal attention with topK_std pooling (VidTr, section 3.3, equation 10).
///
/// With `A = softmax(scale · q·kᵀ)` over time, per batch element, location and head: `std[i]` is the unbiased standard deviation of
/// row `i` of `A`; the `keep` rows of largest `std` stay (on equal values the earlier frame), in order of time; the result is `A'·v` with the kept rows, where
/// `A' = softmax(A)` once more if `renormalize` (the released code), else `A' = A` (the paper).
///
/// | operand | shape | |
/// |---|---|---|
/// | `q`, `k`, `v` | `[B, T, N, heads, D]` | any strides, `T ≥ 2` |
/// | result | `[B, keep, N, heads, D]` | |
/// | `kept` | `[B, keep, N, heads]` i32 | frame indices, increasing along `keep` |
/// | `std` | `[B, T, N, heads]` f32 (f64 where `q` is) | |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionTopkStd {
    /// Usually `D^(-1/2)`.
    pub scale: f32,
    /// Frames to keep, at least 1.
    pub keep: usize,
    /// A second softmax over the kept rows.
    pub renormalize: bool,
}

impl Operation for AttentionTopkStd {
    const NAME: &'static str = "attention_topk_std";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 3)?;
        let (q, k, v) = (check::need(op, inputs, 0, "q")?, check::need(op, inputs, 1, "k")?, check::need(op, inputs, 2, "v")?);
        grid(op, 1, q, k, v)?;
        let s = q.shape();
        if k.shape()[1] != s[1] || s[1] < 2 || self.keep == 0 || self.keep > s[1] {
            let message = format!("q {s}, k {}, keep {}: expected one T ≥ 2 and keep in 1..=T", k.shape(), self.keep);
            return Err(Error::shape(op, message));
        }
        let dtype = if q.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        Ok(vec![
            Spec::new(q.dtype(), &[s[0], self.keep, s[2], s[3], v.shape()[4]])?,
            Spec::new(DType::I32, &[s[0], self.keep, s[2], s[3]])?,
            Spec::new(dtype, &s[..4])?,
        ])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        let (Some(q), Some(v)) = (inputs[0], inputs[2]) else { return (0, 0) };
        let s = q.shape();
        let per_row = s[..4].iter().product::<usize>() as u128;
        // Tensors of s[1] · s[4] elements and of at least `keep` rows of v exist, so each product fits.
        (2 * per_row * (s[1] * s[4] + self.keep * v.shape()[4]) as u128, 6 * per_row * s[1] as u128)
    }
}

/// `[result, kept, std]`; see [`AttentionTopkStd`].
pub fn attention_topk_std(op: AttentionTopkStd, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<[Tensor; 3]> {
    let out = ops::run(&op.into(), &[Some(q), Some(k), Some(v)])?;
    out.try_into().map_err(|_| Error::shape(AttentionTopkStd::NAME, "expected three results"))
}
