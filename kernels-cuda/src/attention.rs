//! Softmax attention along one axis; see `attention.cu`.

use tubelet_engine::{Result, Tensor, ops::attention::Attention};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    elementwise::type_code,
    nest::Nest,
    sequences::{Sequences, Sizes},
};

module!("attention");

parameters!(Parameters {
    q: u64,
    k: u64,
    v: u64,
    y: u64,
    lse: u64,
    nest: Nest<5>,
    row: [i64; 5],
    channel: [i64; 5],
    queries: u32,
    keys: u32,
    width: u32,
    value_width: u32,
    tiles: u32,
    chunks: u32,
    scale: f32,
    dtype: u32,
});

/// Queries, keys and columns of a tile: `TILE` in `attention.cuh`.
pub(crate) const TILE: u32 = 64;

pub(crate) fn run(cuda: &CudaBackend, op: &Attention, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "attention";
    let (q, k, v) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, operand(name, inputs, 2)?);
    let (y, lse) = (result(name, outputs, 0)?, outputs.get(1));
    cuda.float(name, q.dtype())?;
    let sizes = Sizes::new(cuda, name, op.axis, inputs)?;
    let sequences = Sequences::new(op.axis, [q, k, v, y, lse.unwrap_or(y)]);
    // One block of columns at least, as the log-sum-exp may be wanted of values without any.
    let (tiles, chunks) = (sizes.queries.div_ceil(TILE), sizes.value_width.div_ceil(TILE).max(1));
    let parameters = Parameters {
        q: cuda.address(q)?,
        k: cuda.address(k)?,
        v: cuda.address(v)?,
        y: cuda.address(y)?,
        lse: cuda.address_or_null(lse)?,
        nest: sequences.nest,
        row: sequences.row,
        channel: sequences.channel,
        queries: sizes.queries,
        keys: sizes.keys,
        width: sizes.width,
        value_width: sizes.value_width,
        tiles,
        chunks,
        scale: op.scale,
        dtype: type_code(q.dtype()),
    };
    let blocks = sequences.count * tiles as usize * chunks as usize;
    cuda.launch(&MODULE, "attention", blocks, THREADS, &parameters)
}
