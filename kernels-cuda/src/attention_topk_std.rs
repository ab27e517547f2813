//! Temporal attention with topK_std pooling; see `attention_topk_std.cu`.

use tubelet_engine::{Result, Tensor, ops::attention_topk_std::AttentionTopkStd};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    elementwise::type_code,
    nest::Nest,
    sequences::{Sequences, Sizes},
};

module!("attention_topk_std");

parameters!(
    /// What both kernels are told; see `attention_rows.cuh`.
    Pooling {
        frames: u32,
        width: u32,
        value_width: u32,
        keep: u32,
        renormalize: u32,
        scale: f32,
        dtype: u32,
        tile: u32,
    }
);

impl Pooling {
    /// Of `keep` rows of the attention between `q`, `k`, `v`, the first three operands; the gradient takes `tile` columns at a time.
    pub fn new(
        cuda: &CudaBackend,
        op: &'static str,
        inputs: &[Option<&Tensor>],
        (keep, renormalize, scale): (usize, bool, f32),
        tile: usize,
    ) -> Result<Self> {
        let (Sizes { queries, width, value_width, .. }, q) = (Sizes::new(cuda, op, 1, inputs)?, operand(op, inputs, 0)?);
        cuda.float(op, q.dtype())?;
        let (keep, renormalize, tile) = (cuda.count(op, keep)?, renormalize.into(), cuda.count(op, tile)?);
        Ok(Pooling { frames: queries, width, value_width, keep, renormalize, scale, dtype: type_code(q.dtype()), tile })
    }
}

/// Warps of a block, as in `attention_rows.cuh`.
pub(crate) const WARPS: usize = 8;

parameters!(Parameters {
    q: u64,
    k: u64,
    v: u64,
    y: u64,
    kept: u64,
    std: u64,
    nest: Nest<6>,
    row: [i64; 6],
    channel: [i64; 6],
    pooling: Pooling,
});

pub(crate) fn run(cuda: &CudaBackend, op: &AttentionTopkStd, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "attention_topk_std";
    let (q, k, v) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, operand(name, inputs, 2)?);
    let (y, kept, std) = (result(name, outputs, 0)?, result(name, outputs, 1)?, result(name, outputs, 2)?);
    let sequences = Sequences::new(1, [q, k, v, y, kept, std]);
    let parameters = Parameters {
        q: cuda.address(q)?,
        k: cuda.address(k)?,
        v: cuda.address(v)?,
        y: cuda.address(y)?,
        kept: cuda.address(kept)?,
        std: cuda.address(std)?,
        nest: sequences.nest,
        row: sequences.row,
        channel: sequences.channel,
        pooling: Pooling::new(cuda, name, inputs, (op.keep, op.renormalize, op.scale), 0)?,
    };
    // A row for each warp; for each frame its deviation, whether it is kept, and a slot.
    let shared = (WARPS + 3) * q.shape()[1] * 4;
    cuda.launch_shared(&MODULE, name, sequences.count, THREADS, shared, &parameters)
}
