//! Gradient of softmax attention, without storing the scores.

use super::{Operation, Spec, attention::grid, check, run};
use crate::{DType, Error, Result, Tensor};

/// With `P = exp(scale · q·kᵀ − lse)` and `D = Σ gradient · out` per query (Dao et al., FlashAttention, section 3.1):
/// `dv = Pᵀ·gradient`, `dS = P ∘ (gradient·vᵀ − D)`, `dq = scale · dS·k`, `dk = scale · dSᵀ·q`.
///
/// | operand | shape | |
/// |---|---|---|
/// | `q`, `k`, `v` | as in [`super::attention::Attention`] | any strides |
/// | `out` | `[B, X, Y, heads, Dv]` | the forward pass's result, any strides |
/// | `lse` | `[B, X, Y, heads]` | its log-sum-exp, f32 (f64 where `q` is) |
/// | `gradient` | as `out` | any strides |
/// | results `dq`, `dk`, `dv` | as `q`, `k`, `v` | |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionBackward {
    /// As in the forward pass.
    pub scale: f32,
    /// As in the forward pass.
    pub axis: usize,
}

impl Operation for AttentionBackward {
    const NAME: &'static str = "attention_backward";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 6)?;
        let (q, k, v) = (check::need(op, inputs, 0, "q")?, check::need(op, inputs, 1, "k")?, check::need(op, inputs, 2, "v")?);
        grid(op, self.axis, q, k, v)?;
        let out = q.shape().with_tail(1, &[v.shape()[4]])?;
        for (i, name) in [(3, "out"), (5, "gradient")] {
            let x = check::need(op, inputs, i, name)?;
            check::dtype(op, x, name, q.dtype())?;
            check::shape(op, x, name, &out)?;
        }
        let lse = check::need(op, inputs, 4, "lse")?;
        check::dtype(op, lse, "lse", if q.dtype() == DType::F64 { DType::F64 } else { DType::F32 })?;
        check::shape(op, lse, "lse", &q.shape()[..4])?;
        Ok([q, k, v].map(|x| Spec { dtype: x.dtype(), shape: *x.shape() }).to_vec())
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        let (Some(q), Some(v)) = (inputs[0], inputs[2]) else { return (0, 0) };
        let scores = (q.elements() / q.shape()[4].max(1)) as u128 * v.shape()[self.axis] as u128;
        // Scores, dq and dk over D; gradient·vᵀ and dv over Dv.
        (2 * scores * (3 * q.shape()[4] + 2 * v.shape()[4]) as u128, 4 * scores)
    }
}

/// `[dq, dk, dv]`; see [`AttentionBackward`].
pub fn attention_backward(
    op: AttentionBackward,
    [q, k, v]: [&Tensor; 3],
    out: &Tensor,
    lse: &Tensor,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    let results = run(&op.into(), &[Some(q), Some(k), Some(v), Some(out), Some(lse), Some(gradient)])?;
    results.try_into().map_err(|_| Error::shape(AttentionBackward::NAME, "expected three results"))
}
