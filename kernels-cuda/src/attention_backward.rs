//! Gradient of softmax attention; see `attention_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::attention_backward::AttentionBackward};

use crate::{
    attention::{self, MMA_THREADS, TILE, on_tensor_cores, wide},
    backend::{CudaBackend, THREADS, operand, result},
    driver::EncodedMap,
    elementwise::type_code,
    hopper,
    nest::Nest,
    sequences::{Sequences, Sizes},
};

module!("attention_backward", and for hopper);

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
    packed: u32,
    wide: [u32; 10],
});

parameters!(HopperParameters {
    q: EncodedMap,
    k: EncodedMap,
    v: EncodedMap,
    gradient: EncodedMap,
    p: Parameters,
    heads: u32,
    others: u32,
    unused: [u32; 6],
});

/// On Hopper: rows of a block, of a tile that the copy engine moves, and bytes of what is known of so many queries; `ROWS` and `BOX` in
/// `attention_backward_hopper.cuh`.
const HOPPER_ROWS: usize = 128;
const HOPPER_BOX: usize = 64;
const HOPPER_STATISTICS: usize = HOPPER_BOX * 8;

/// Bytes of shared memory of a block on tensor cores: two heads of its own rows, and two stages of two heads.
const MMA_SHARED: usize = 6 * 64 * 64 * 2;
/// Of one with short sequences: four tiles, and sums on their way out.
const SHORT_SHARED: usize = 4 * 64 * 64 * 2 + 64 * 68 * 4;

pub(crate) fn run(cuda: &CudaBackend, op: &AttentionBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "attention_backward";
    let [q, k, v, out, lse, gradient] = [0, 1, 2, 3, 4, 5].map(|i| operand(name, inputs, i));
    let (q, k, v, out, lse, gradient) = (q?, k?, v?, out?, lse?, gradient?);
    let (dq, dk, dv) = (result(name, outputs, 0)?, result(name, outputs, 1)?, result(name, outputs, 2)?);
    cuda.float(name, q.dtype())?;
    let sizes = Sizes::new(cuda, name, op.axis, inputs)?;
    let sequences = Sequences::new(op.axis, [q, k, v, out, lse, gradient, dq, dk, dv]);
    let packed = attention::packed(q.dtype(), &sizes);
    let hopper_width = if packed.is_some() { None } else { hopper::head_width(cuda, &sizes, &[q, k, v, out, gradient])? };
    // Of each query one number; on Hopper two, and whole blocks of queries; none where a tile has all that its sequences need.
    let (whole, bytes) = if hopper_width.is_some() { (HOPPER_ROWS, 8) } else { (1, if packed.is_some() { 0 } else { 4 }) };
    let rows = sequences.count * (sizes.queries as usize).next_multiple_of(whole);
    cuda.count(name, rows)?;
    let delta = cuda.scratch(rows * bytes)?;
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
        packed: packed.unwrap_or(1),
        wide: [wide(cuda, q)?, wide(cuda, k)?, wide(cuda, v)?, wide(cuda, out)?, 0, wide(cuda, gradient)?, 0, 0, 0, 0],
    };
    let blocks = |tiles: u32, chunks: u32| sequences.count * tiles as usize * chunks as usize;
    let Parameters { query_tiles, key_tiles, query_chunks, key_chunks, .. } = parameters;
    if let Some(packed) = packed {
        let blocks = sequences.count.div_ceil(packed as usize);
        return cuda.launch_shared(&MODULE, "attention_backward_short", blocks, MMA_THREADS, SHORT_SHARED, &parameters);
    }
    if let Some(width) = hopper_width {
        // Sixteen lanes for each query.
        cuda.launch(&MODULE, "attention_backward_hopper_statistics", rows.div_ceil(16), THREADS, &parameters)?;
        return launch_hopper(cuda, op.axis, [q, k, v, gradient], parameters, width);
    }
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

/// The kernels for heads of up to `width` columns, of `q`, `k`, `v` and the gradient.
fn launch_hopper(cuda: &CudaBackend, axis: usize, operands: [&Tensor; 4], p: Parameters, width: u32) -> Result<()> {
    let q = operands[0];
    let (dtype, sequences) = (q.dtype(), p.sequences as usize);
    let map = |x: &Tensor| hopper::head_map(cuda, x, axis, HOPPER_BOX);
    let count = |d: usize| cuda.count("attention_backward", q.shape()[d]);
    let (heads, others, tiles) =
        (count(3)?, count(3 - axis)?, [p.queries, p.keys].map(|rows| (rows as usize).div_ceil(HOPPER_ROWS)));
    let [q, k, v, gradient] = operands.map(map);
    let parameters = HopperParameters { q: q?, k: k?, v: v?, gradient: gradient?, p, heads, others, unused: [0; 6] };
    // Two tiles of its own rows, 256 of the other side's in stages; barriers.
    let shared = 6 * hopper::head_tile(HOPPER_ROWS, width) + 128;
    for (step, tiles, statistics) in [("dq", tiles[0], 0), ("dkv", tiles[1], 4 * HOPPER_STATISTICS)] {
        let kernel = format!("attention_backward_{step}_{dtype}_hopper_{width}");
        cuda.launch_shared(&MODULE, &kernel, sequences * tiles, hopper::THREADS, shared + statistics, &parameters)?;
    }
    Ok(())
}
