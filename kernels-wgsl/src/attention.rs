//! Softmax attention along one axis of a grid of tokens.

use tubelet_engine::{Result, Tensor, ops::attention::Attention};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand},
    operand::has_vectors,
};

/// A grid `[B, X, Y, …]` as `[B, O, L, …]`: the axis that is attended along comes after the other one.
pub(crate) fn along(axis: usize, x: &Tensor) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..x.rank()).collect();
    order[1..3].copy_from_slice(&[3 - axis, axis]);
    x.detach().permute(&order)
}

/// How far apart the rows (all but the last dimension) of a contiguous `[B, X, Y, heads, D]` are, in the order of [`along`].
pub(crate) fn rows(axis: usize, x: &Tensor) -> [usize; 4] {
    let s = x.shape();
    let along_y = [s[1] * s[2] * s[3], s[2] * s[3], s[3], 1];
    [along_y[0], along_y[3 - axis], along_y[axis], 1]
}

/// The sizes of a grid in the order of [`along`] as the kernels know them: how many workgroups' worth of heads, too.
pub(crate) fn sizes<'a>(kernel: Kernel<'a>, q: &Tensor, k: &Tensor, v: &Tensor) -> Kernel<'a> {
    kernel
        .size("others", q.shape()[1])
        .size("queries", q.shape()[2])
        .size("keys", k.shape()[2])
        .size("heads", q.shape()[3])
        .size("width", q.shape()[4])
        .size("value_width", v.shape()[4])
}

/// Numbers of channels that an invocation owns, and the room for all of them.
pub(crate) fn owned(width: usize, lanes: u32) -> u32 {
    (width as u32).div_ceil(lanes).max(1)
}

/// The three kernels; the operands' names are theirs.
enum Variant {
    /// `attention.wgsl`: a workgroup for each query.
    Row,
    /// `attention_tiled.wgsl`: a workgroup for one of [`TILES`].
    Tiled,
    /// `attention_direct.wgsl`: an invocation for so many queries. Of operands that [`has_vectors`] alone.
    Direct(u32),
}

impl Variant {
    fn of(q: &Tensor, v: &Tensor, vectors: bool, gpu: &Wgpu) -> Variant {
        let direct = gpu.is_processor() && vectors;
        let (width, queries) = (q.shape()[4].max(v.shape()[4]), q.shape()[2]);
        let padded = |rows: u32| queries.next_multiple_of(rows as usize);
        match direct {
            _ if width > NARROW => Variant::Row,
            // Twice as many queries use a key twice as often, but where a fifth of them would idle.
            true if queries >= FEW_ROWS as usize / 2 => {
                Variant::Direct(if 4 * padded(2 * FEW_ROWS) > 5 * padded(FEW_ROWS) { FEW_ROWS } else { 2 * FEW_ROWS })
            }
            _ if queries >= TILES[0] as usize => Variant::Tiled,
            _ => Variant::Row,
        }
    }
}

pub fn run(op: &Attention, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let [q, k, v] =
        [along(op.axis, operand(inputs, 0)?)?, along(op.axis, operand(inputs, 1)?)?, along(op.axis, operand(inputs, 2)?)?];
    let vectors = [&q, &k, &v].into_iter().all(|x| has_vectors(x, gpu));
    let variant = Variant::of(&q, &v, vectors, gpu);
    let kernel = match variant {
        Variant::Row => Kernel::new("attention", include_str!("attention.wgsl")),
        Variant::Tiled if vectors => {
            Kernel::new("attention_tiled", include_str!("attention_tiled.wgsl")).then(include_str!("attention_fill_vectors.wgsl"))
        }
        Variant::Tiled => {
            Kernel::new("attention_tiled", include_str!("attention_tiled.wgsl")).then(include_str!("attention_fill.wgsl"))
        }
        Variant::Direct(_) => Kernel::new("attention_direct", include_str!("attention_direct.wgsl")),
    };
    let fours = vectors && !matches!(variant, Variant::Row);
    let kernel = kernel
        .then(include_str!("attention_place.wgsl"))
        .strided("q", &q)
        .by_fours(fours)
        .strided("k", &k)
        .by_fours(fours)
        .strided("v", &v)
        .by_fours(fours)
        .write("y", &outputs[0])
        .write_optional("lse", outputs.get(1))
        .sizes("out", &rows(op.axis, &outputs[0]))
        .number("scale", op.scale);
    let kernel = sizes(kernel, &q, &k, &v);
    let (width, value_width, queries) = (q.shape()[4], v.shape()[4], q.shape()[2]);
    let sequences = count(&[q.shape()[0], q.shape()[1], q.shape()[3]]);
    match variant {
        Variant::Row => {
            let lanes = gpu.row_lanes();
            let (width, own) = (owned(width, lanes) * lanes, owned(value_width, lanes));
            kernel.lanes(lanes).tile("WIDTH", width).constant("OWN", own).launch(sequences * queries, gpu)
        }
        Variant::Tiled => {
            let width = width.next_multiple_of(16).max(16) as u32;
            let kernel = kernel.tile("WIDTH", width).tile("KEYS", TILE_KEYS);
            let launch = |tile: u32| {
                let groups = sequences * queries.div_ceil(tile as usize);
                kernel.clone().lanes(4 * tile).tile("QUERIES", tile).launch(groups, gpu)
            };
            let fitting: Vec<u32> = TILES.into_iter().filter(|&tile| fits(width, tile, gpu)).collect();
            let [sequences, queries, keys] = [sequences, queries, k.shape()[2]].map(usize::next_power_of_two);
            let class = format!("attention {sequences} {queries} {keys} {width}");
            launch(gpu.tuner.choose(&class, &fitting, TILE, gpu, launch)?)
        }
        Variant::Direct(rows) => kernel
            .lanes(gpu.direct_lanes())
            .constant("ROWS", rows)
            .constant("VECTORS", value_width as u32 / 4)
            .launch_each(sequences * queries.div_ceil(rows as usize), gpu),
    }
}

/// Whether the adapter has the workgroup memory and the invocations for a tile of so many queries.
fn fits(width: u32, queries: u32, gpu: &Wgpu) -> bool {
    let limits = gpu.device.limits();
    // The queries, the keys or values, the weights, and three numbers of each query: see `attention_tiled.wgsl`.
    let numbers = width * queries + TILE_KEYS * NARROW as u32 + queries * TILE_KEYS + 3 * queries;
    4 * numbers <= limits.max_compute_workgroup_storage_size && 4 * queries <= limits.max_compute_invocations_per_workgroup
}

/// Queries of a workgroup in `attention_tiled.wgsl` that the tuner tries: the number changes no bit.
const TILES: [u32; 3] = [8, 16, 32];
/// What is best by reckoning alone: WebGPU's least limits have room for it.
const TILE: u32 = 16;
/// Keys at a time. One number, because the order of the sums depends on it.
const TILE_KEYS: u32 = 32;
/// More channels than that do not fit into tiles or registers.
const NARROW: usize = 64;
/// The fewer queries of an invocation in `attention_direct.wgsl`.
const FEW_ROWS: u32 = 4;
