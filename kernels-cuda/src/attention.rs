//! Softmax attention along one axis; see `attention.cu`.

use tubelet_engine::{DType, Result, Tensor, ops::attention::Attention};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    elementwise::type_code,
    nest::Nest,
    product::{aligned, stride},
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
    wide: [u32; 3],
    unused: u32,
});

/// Queries, keys and columns of a tile: `TILE` in `attention.cuh`.
pub(crate) const TILE: u32 = 64;
/// The widest head on tensor cores: `HEAD` in `attention_mma.cuh`, whose blocks have so many threads and bytes of shared memory.
const HEAD: u32 = 64;
pub(crate) const MMA_THREADS: u32 = 128;
const MMA_SHARED: usize = 5 * 64 * 64 * 2;

/// Whether channels can be read by 16 bytes.
pub(crate) fn wide(cuda: &CudaBackend, x: &Tensor) -> Result<u32> {
    let others: Vec<usize> = (0..4).map(|d| stride(x, d)).collect();
    let neighbours = stride(x, 4) == 1 || x.shape()[4] == 1;
    Ok((neighbours && aligned(x.dtype(), cuda.address(x)?, &others)).into())
}

/// Whether the kernels for tensor cores serve these heads.
pub(crate) fn on_tensor_cores(dtype: DType, sizes: &Sizes) -> bool {
    dtype != DType::F32 && sizes.width.max(sizes.value_width) <= HEAD
}

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
        wide: [wide(cuda, q)?, wide(cuda, k)?, wide(cuda, v)?],
        unused: 0,
    };
    let blocks = sequences.count * tiles as usize * chunks as usize;
    if on_tensor_cores(q.dtype(), &sizes) {
        return cuda.launch_shared(&MODULE, &format!("attention_{}", q.dtype()), blocks, MMA_THREADS, MMA_SHARED, &parameters);
    }
    cuda.launch(&MODULE, "attention", blocks, THREADS, &parameters)
}
