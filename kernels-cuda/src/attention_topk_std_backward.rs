//! Gradient of temporal attention with topK_std pooling; see `attention_topk_std_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::attention_topk_std_backward::AttentionTopkStdBackward};

use crate::{
    attention_topk_std::{Pooling, WARPS},
    backend::{CudaBackend, THREADS, operand, result},
    nest::Nest,
    sequences::Sequences,
};

module!("attention_topk_std_backward");

parameters!(Parameters {
    q: u64,
    k: u64,
    v: u64,
    kept: u64,
    gradient: u64,
    dq: u64,
    dk: u64,
    dv: u64,
    nest: Nest<8>,
    row: [i64; 8],
    channel: [i64; 8],
    pooling: Pooling,
});

/// Bytes of `Slot` in the `.cu` file, and its frame.
const SLOT: usize = 28;
/// Bytes of shared memory that every chip gives to two blocks of a multiprocessor, and the columns that are taken at once even beyond that.
const SHARED: usize = 48 << 10;
const LEAST: usize = 8;

pub(crate) fn run(
    cuda: &CudaBackend,
    op: &AttentionTopkStdBackward,
    inputs: &[Option<&Tensor>],
    outputs: &[Tensor],
) -> Result<()> {
    let name = "attention_topk_std_backward";
    let [q, k, v, kept, gradient] = [0, 1, 2, 3, 4].map(|i| operand(name, inputs, i));
    let (q, k, v, kept, gradient) = (q?, k?, v?, kept?, gradient?);
    let (dq, dk, dv) = (result(name, outputs, 0)?, result(name, outputs, 1)?, result(name, outputs, 2)?);
    let sequences = Sequences::new(1, [q, k, v, kept, gradient, dq, dk, dv]);
    let (frames, keep) = (q.shape()[1], kept.shape()[1]);
    // Three rows for each warp, and what is known of each slot.
    let fixed = WARPS * 3 * frames * 4 + keep * SLOT;
    let column = 2 * keep * 4;
    let tile = (SHARED.saturating_sub(fixed) / column.max(1)).clamp(LEAST, LEAST.max(frames)).min(frames);
    let parameters = Parameters {
        q: cuda.address(q)?,
        k: cuda.address(k)?,
        v: cuda.address(v)?,
        kept: cuda.address(kept)?,
        gradient: cuda.address(gradient)?,
        dq: cuda.address(dq)?,
        dk: cuda.address(dk)?,
        dv: cuda.address(dv)?,
        nest: sequences.nest,
        row: sequences.row,
        channel: sequences.channel,
        pooling: Pooling::new(cuda, name, inputs, (keep, op.renormalize, op.scale), tile)?,
    };
    let shared = fixed + tile * column;
    cuda.launch_shared(&MODULE, name, sequences.count, THREADS, shared, &parameters)
}
