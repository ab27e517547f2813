//! Softmax attention along one axis; see `attention.cu`.

use tubelet_engine::{DType, Result, Tensor, ops::attention::Attention};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    driver::EncodedMap,
    elementwise::type_code,
    hopper,
    nest::Nest,
    product::{aligned, stride},
    sequences::{Sequences, Sizes},
};

module!("attention", and for hopper);

parameters!(Parameters {
    q: u64,
    k: u64,
    v: u64,
    y: u64,
    lse: u64,
    partial: u64,
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
    segments: u32,
    segment_keys: u32,
    tasks: u32,
});

parameters!(HopperParameters {
    q: EncodedMap,
    k: EncodedMap,
    v: EncodedMap,
    p: Parameters,
    heads: u32,
    others: u32,
    unused: [u32; 6]
});

/// Queries of a block on Hopper, and keys of a step.
const HOPPER_ROWS: usize = 128;

/// Queries, keys and columns of a tile: `TILE` in `attention.cuh`.
pub(crate) const TILE: u32 = 64;
/// The widest head on tensor cores: `HEAD` in `attention_mma.cuh`, whose blocks have so many threads and bytes of shared memory.
const HEAD: u32 = 64;
pub(crate) const MMA_THREADS: u32 = 128;
const MMA_SHARED: usize = 5 * 64 * 64 * 2;
/// Three tiles of short sequences.
const SHORT_SHARED: usize = 3 * 64 * 64 * 2;

/// Whether channels can be read by 16 bytes.
pub(crate) fn wide(cuda: &CudaBackend, x: &Tensor) -> Result<u32> {
    let others: Vec<usize> = (0..4).map(|d| stride(x, d)).collect();
    let neighbours = stride(x, 4) == 1 || x.shape()[4] == 1;
    Ok((neighbours && aligned(x.dtype(), cuda.address(x)?, &others)).into())
}

/// Whether a warp for each query serves better than tiles of 64: for one or two over anything, and for those of a short clip over each other where no
/// tensor core does.
fn are_few(dtype: DType, sizes: &Sizes) -> bool {
    let few = sizes.queries <= 2 || (sizes.queries <= 16 && sizes.keys <= 64 && packed(dtype, sizes).is_none());
    few && sizes.width.max(sizes.value_width) <= HEAD
}

/// Sequences of a tile at most: `PACKED` in `attention_short.cuh`.
const PACKED: u32 = 16;

/// How many short sequences share a tile, where a tile has all that they need.
pub(crate) fn packed(dtype: DType, sizes: &Sizes) -> Option<u32> {
    let (shorter, longer) = (sizes.queries.min(sizes.keys), sizes.queries.max(sizes.keys));
    (on_tensor_cores(dtype, sizes) && shorter > 0 && longer <= TILE).then(|| (TILE / longer).min(PACKED))
}

/// Numbers that a segment of keys leaves: `LEFT` in `attention_few.cuh`.
const LEFT: usize = 66;
/// Warps that keep a large GPU busy, and the fewest keys that are worth a warp.
const BUSY: u32 = 4096;
const LEAST_KEYS: u32 = 64;

/// How the keys of few queries are cut: by the shape alone.
struct Segments {
    count: u32,
    keys: u32,
}

impl Segments {
    fn new(tasks: u32, keys: u32) -> Segments {
        let wanted = (BUSY / tasks.max(1)).clamp(1, keys.div_ceil(LEAST_KEYS).max(1));
        let each = keys.div_ceil(wanted).next_multiple_of(4).max(4);
        Segments { count: keys.div_ceil(each).max(1), keys: each }
    }
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
    let tasks = cuda.count(name, sequences.count * sizes.queries as usize)?;
    let segments = Segments::new(tasks, sizes.keys);
    let few = are_few(q.dtype(), &sizes);
    let packed = packed(q.dtype(), &sizes);
    let warps = tasks as usize * segments.count as usize;
    let partial = if few && segments.count > 1 { Some(cuda.scratch(warps * LEFT * 4)?) } else { None };
    let parameters = Parameters {
        q: cuda.address(q)?,
        k: cuda.address(k)?,
        v: cuda.address(v)?,
        y: cuda.address(y)?,
        lse: cuda.address_or_null(lse)?,
        partial: partial.as_ref().map_or(0, |scratch| scratch.address),
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
        segments: if few { segments.count } else { packed.unwrap_or(1) },
        segment_keys: segments.keys,
        tasks,
    };
    if few {
        cuda.launch(&MODULE, "attention_few", warps.div_ceil(8), THREADS, &parameters)?;
        return match partial {
            Some(_) => cuda.launch(&MODULE, "attention_few_join", (tasks as usize).div_ceil(4), THREADS, &parameters),
            None => Ok(()),
        };
    }
    if let Some(packed) = packed {
        let blocks = sequences.count.div_ceil(packed as usize);
        return cuda.launch_shared(&MODULE, "attention_short", blocks, MMA_THREADS, SHORT_SHARED, &parameters);
    }
    if let Some(width) = hopper::head_width(cuda, &sizes, &[q, k, v])? {
        let map = |x: &Tensor| hopper::head_map(cuda, x, op.axis, HOPPER_ROWS);
        let [heads, others] = [q.shape()[3], q.shape()[3 - op.axis]];
        let (heads, others) = (cuda.count(name, heads)?, cuda.count(name, others)?);
        let parameters = HopperParameters { q: map(q)?, k: map(k)?, v: map(v)?, p: parameters, heads, others, unused: [0; 6] };
        let blocks = sequences.count * (sizes.queries as usize).div_ceil(HOPPER_ROWS);
        // Queries and two stages of keys and values, in pieces of 64 columns; barriers.
        let shared = 5 * hopper::head_tile(HOPPER_ROWS, width) + 64;
        let kernel = format!("attention_{}_hopper_{width}", q.dtype());
        return cuda.launch_shared(&MODULE, &kernel, blocks, hopper::THREADS, shared, &parameters);
    }
    let blocks = sequences.count * tiles as usize * chunks as usize;
    if on_tensor_cores(q.dtype(), &sizes) {
        return cuda.launch_shared(&MODULE, "attention_half", blocks, MMA_THREADS, MMA_SHARED, &parameters);
    }
    cuda.launch(&MODULE, "attention", blocks, THREADS, &parameters)
}
