//! Gradient of softmax attention; see `attention_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::attention_backward::AttentionBackward};

use crate::{
    attention::{MMA_THREADS, TILE, on_tensor_cores, wide},
    backend::{CudaBackend, THREADS, operand, result},
    elementwise::type_code,
    nest::Nest,
    sequences::{Sequences, Sizes},
};

module!("attention_backward");

parameters!(Parameters {
    q: u64,
    k: u64,
    v: u64,
    out: u64,
    lse: u64,
    gradient: u64,
    dq: u64,
    dk: u64,
    dv: u64,
    delta: u64,
    nest: Nest<9>,
    row: [i64; 9],
    channel: [i64; 9],
    queries: u32,
    keys: u32,
    width: u32,
    value_width: u32,
    query_tiles: u32,
    key_tiles: u32,
    query_chunks: u32,
    key_chunks: u32,
    sequences: u32,
    scale: f32,
    dtype: u32,
    unused: u32,
    wide: [u32; 10],
});

/// Bytes of shared memory of a block on tensor cores: two heads of its own rows, and two stages of two heads.
const MMA_SHARED: usize = 6 * 64 * 64 * 2;

pub(crate) fn run(cuda: &CudaBackend, op: &AttentionBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "attention_backward";
    let [q, k, v, out, lse, gradient] = [0, 1, 2, 3, 4, 5].map(|i| operand(name, inputs, i));
    let (q, k, v, out, lse, gradient) = (q?, k?, v?, out?, lse?, gradient?);
    let (dq, dk, dv) = (result(name, outputs, 0)?, result(name, outputs, 1)?, result(name, outputs, 2)?);
    cuda.float(name, q.dtype())?;
    let sizes = Sizes::new(cuda, name, op.axis, inputs)?;
    let sequences = Sequences::new(op.axis, [q, k, v, out, lse, gradient, dq, dk, dv]);
    let rows = sequences.count * sizes.queries as usize;
    cuda.count(name, rows)?;
    let delta = cuda.scratch(rows * 4)?;
    let parameters = Parameters {
        q: cuda.address(q)?,
        k: cuda.address(k)?,
        v: cuda.address(v)?,
        out: cuda.address(out)?,
        lse: cuda.address(lse)?,
        gradient: cuda.address(gradient)?,
        dq: cuda.address(dq)?,
        dk: cuda.address(dk)?,
        dv: cuda.address(dv)?,
        delta: delta.address,
        nest: sequences.nest,
        row: sequences.row,
        channel: sequences.channel,
        queries: sizes.queries,
        keys: sizes.keys,
        width: sizes.width,
        value_width: sizes.value_width,
        query_tiles: sizes.queries.div_ceil(TILE),
        key_tiles: sizes.keys.div_ceil(TILE),
        query_chunks: sizes.width.div_ceil(TILE),
        key_chunks: sizes.width.max(sizes.value_width).div_ceil(TILE),
        sequences: cuda.count(name, sequences.count)?,
        scale: op.scale,
        dtype: type_code(q.dtype()),
        unused: 0,
        wide: [wide(cuda, q)?, wide(cuda, k)?, wide(cuda, v)?, 0, 0, wide(cuda, gradient)?, 0, 0, 0, 0],
    };
    let blocks = |tiles: u32, chunks: u32| sequences.count * tiles as usize * chunks as usize;
    let Parameters { query_tiles, key_tiles, query_chunks, key_chunks, .. } = parameters;
    // A warp for each query.
    cuda.launch(&MODULE, "attention_backward_delta", rows.div_ceil(8), THREADS, &parameters)?;
    if on_tensor_cores(q.dtype(), &sizes) {
        let launch = |step: &str, tiles: u32| {
            let kernel = format!("attention_backward_{step}_half");
            cuda.launch_shared(&MODULE, &kernel, blocks(tiles, 1), MMA_THREADS, MMA_SHARED, &parameters)
        };
        launch("dq", query_tiles)?;
        return launch("dkv", key_tiles);
    }
    cuda.launch(&MODULE, "attention_backward_dq", blocks(query_tiles, query_chunks), THREADS, &parameters)?;
    cuda.launch(&MODULE, "attention_backward_dkv", blocks(key_tiles, key_chunks), THREADS, &parameters)
}
