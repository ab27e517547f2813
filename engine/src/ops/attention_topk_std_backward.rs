//! Gradient of temporal attention with topK_std pooling.

use super::{Operation, Spec, attention::grid, check, run};
use crate::{DType, Error, Result, Tensor};

/// The gradient through the rows that were kept; which rows those are has none (VidTr, section 3.3).
///
/// With the kept rows `A` of `softmax(scale · q·kᵀ)` and `W = softmax(A)` if `renormalize`, else `W = A`: `dv = Wᵀ·gradient`,
/// `dW = gradient·vᵀ`, then back through each softmax as in [`super::softmax_backward`], and to `q` (rows that were dropped get 0) and `k`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `q`, `k`, `v` | as in [`super::attention_topk_std::AttentionTopkStd`] | any strides |
/// | `kept` | `[B, keep, N, heads]` i32 | its second result, any strides; values outside `0..T` are clamped |
/// | `gradient` | `[B, keep, N, heads, D]` | of its first result, any strides |
/// | results `dq`, `dk`, `dv` | as `q`, `k`, `v` | |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionTopkStdBackward {
    /// As in the forward pass.
    pub scale: f32,
    /// As in the forward pass.
    pub renormalize: bool,
}

impl Operation for AttentionTopkStdBackward {
    const NAME: &'static str = "attention_topk_std_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 5)?;
        let (q, k, v) = (check::need(op, inputs, 0, "q")?, check::need(op, inputs, 1, "k")?, check::need(op, inputs, 2, "v")?);
        grid(op, 1, q, k, v)?;
        let s = q.shape();
        let kept = check::need(op, inputs, 3, "kept")?;
        check::dtype(op, kept, "kept", DType::I32)?;
        check::rank(op, kept, "kept", 4, "[B, keep, N, heads]")?;
        let keep = kept.shape()[1];
        if k.shape()[1] != s[1] || keep > s[1] {
            return Err(Error::shape(op, format!("q {s}, k {}, kept {}: expected one T ≥ keep", k.shape(), kept.shape())));
        }
        check::shape(op, kept, "kept", &[s[0], keep, s[2], s[3]])?;
        let gradient = check::need(op, inputs, 4, "gradient")?;
        check::dtype(op, gradient, "gradient", q.dtype())?;
        check::shape(op, gradient, "gradient", &[s[0], keep, s[2], s[3], v.shape()[4]])?;
        Ok([q, k, v].map(|x| Spec { dtype: x.dtype(), shape: *x.shape() }).to_vec())
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        let (Some(k), Some(v), Some(kept)) = (inputs[1], inputs[2], inputs[3]) else { return (0, 0) };
        let scores = kept.elements() as u128 * k.shape()[1] as u128;
        (2 * scores * (3 * k.shape()[4] + 2 * v.shape()[4]) as u128, 8 * scores)
    }
}

/// `[dq, dk, dv]`; see [`AttentionTopkStdBackward`].
pub fn attention_topk_std_backward(
    op: AttentionTopkStdBackward,
    [q, k, v]: [&Tensor; 3],
    kept: &Tensor,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    let results = run(&op.into(), &[Some(q), Some(k), Some(v), Some(kept), Some(gradient)])?;
    results.try_into().map_err(|_| Error::shape(AttentionTopkStdBackward::NAME, "expected three results"))
}
