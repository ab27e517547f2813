//! Gradient of temporal attention with topK_std pooling; see `attention_topk_std_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::attention_topk_std_backward::AttentionTopkStdBackward};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    elementwise::type_code,
    nest::Nest,
    sequences::{Sequences, Sizes},
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
    frames: u32,
    width: u32,
    value_width: u32,
    keep: u32,
    renormalize: u32,
    scale: f32,
    dtype: u32,
    unused: u32,
});

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
    cuda.float(name, q.dtype())?;
    let sizes = Sizes::new(cuda, name, 1, inputs)?;
    let sequences = Sequences::new(1, [q, k, v, kept, gradient, dq, dk, dv]);
    let (frames, keep) = (sizes.queries as usize, kept.shape()[1]);
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
        frames: sizes.queries,
        width: sizes.width,
        value_width: sizes.value_width,
        keep: cuda.count(name, keep)?,
        renormalize: op.renormalize.into(),
        scale: op.scale,
        dtype: type_code(q.dtype()),
        unused: 0,
    };
    // Weights and slopes of the kept rows, a row of scores for each warp, and the frames.
    let shared = (2 * keep * frames + 8 * frames + keep) * 4;
    cuda.launch_shared(&MODULE, name, sequences.count, THREADS, shared, &parameters)
}
