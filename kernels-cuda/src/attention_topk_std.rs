//! Temporal attention with topK_std pooling; see `attention_topk_std.cu`.

use tubelet_engine::{Result, Tensor, ops::attention_topk_std::AttentionTopkStd};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    elementwise::type_code,
    nest::Nest,
    sequences::{Sequences, Sizes},
};

module!("attention_topk_std");

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
    frames: u32,
    width: u32,
    value_width: u32,
    keep: u32,
    renormalize: u32,
    scale: f32,
    dtype: u32,
    unused: u32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &AttentionTopkStd, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "attention_topk_std";
    let (q, k, v) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, operand(name, inputs, 2)?);
    let (y, kept, std) = (result(name, outputs, 0)?, result(name, outputs, 1)?, result(name, outputs, 2)?);
    cuda.float(name, q.dtype())?;
    let sizes = Sizes::new(cuda, name, 1, inputs)?;
    let sequences = Sequences::new(1, [q, k, v, y, kept, std]);
    let frames = sizes.queries as usize;
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
        frames: sizes.queries,
        width: sizes.width,
        value_width: sizes.value_width,
        keep: cuda.count(name, op.keep)?,
        renormalize: op.renormalize.into(),
        scale: op.scale,
        dtype: type_code(q.dtype()),
        unused: 0,
    };
    // The scores; for each frame its deviation, whether it is kept, and a slot.
    let shared = (frames * frames + 3 * frames) * 4;
    cuda.launch_shared(&MODULE, name, sequences.count, THREADS, shared, &parameters)
}
