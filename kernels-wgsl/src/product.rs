//! The tiles of the matrix products that gemm and the convolutions are made of; see `product.wgsl` and `product_direct.wgsl`.

use std::fmt;

use tubelet_engine::Result;

use crate::{device::Wgpu, kernel::Kernel};

/// `batches` products of `m` by `n` by `k`.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub batches: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Whether the text of the operation gives `left4` and `right4`, four k at once, or `left` and `right`.
    pub vectors: bool,
}

/// How a product is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tile {
    /// `product.wgsl`: `[rows, columns, depth]` in workgroup memory, `override`s, and the side of the square of elements that an invocation
    /// computes, a constant of the text.
    Shared([u32; 3], u32),
    /// `product_direct.wgsl`: rows and columns of an invocation, constants of the text. For vectors alone: operands that are dear to bring in
    /// (patches, halves) are shared, and texts stay short enough for a compiler.
    Direct([u32; 2]),
}

/// 256 invocations, 8 KiB of workgroup memory.
const LARGE: Tile = Tile::Shared([64, 64, 16], 4);
/// Where the result has few tiles of 64 x 64: 64 invocations.
const SMALL: Tile = Tile::Shared([32, 32, 16], 4);
/// Most work for each number that is brought in.
const HUGE: Tile = Tile::Shared([128, 128, 16], 8);
/// The same without workgroup memory: three times as fast as [`HUGE`] on Mesa's software device.
const DIRECT: Tile = Tile::Direct([16, 8]);
/// For few rows.
const DIRECT_FLAT: Tile = Tile::Direct([4, 8]);
/// What the tuner tries of what the adapter takes.
const TILES: [Tile; 9] = [
    LARGE,
    SMALL,
    Tile::Shared([64, 64, 32], 4),
    Tile::Shared([64, 64, 16], 8),
    Tile::Shared([128, 64, 16], 8),
    HUGE,
    Tile::Shared([128, 128, 32], 8),
    DIRECT,
    DIRECT_FLAT,
];
/// Below so many tiles a device with many multiprocessors is not filled.
const FEW: usize = 128;

impl Tile {
    /// Whether the adapter has the invocations and the workgroup memory, of numbers of f32. WebGPU's least limits have them for all tiles but
    /// the deepest.
    fn fits(self, gpu: &Wgpu) -> bool {
        let Tile::Shared([rows, columns, depth], _) = self else { return true };
        let limits = gpu.device.limits();
        self.lanes(gpu) <= limits.max_compute_invocations_per_workgroup
            && (rows + columns) * depth * 4 <= limits.max_compute_workgroup_storage_size
    }

    /// Invocations of a workgroup.
    fn lanes(self, gpu: &Wgpu) -> u32 {
        match self {
            Tile::Shared([rows, columns, _], side) => rows / side * (columns / side),
            Tile::Direct(_) => gpu.direct_lanes(),
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tile::Shared([rows, columns, depth], side) => write!(f, "{rows} {columns} {depth} {side}"),
            Tile::Direct([rows, columns]) => write!(f, "{rows} {columns}"),
        }
    }
}

impl Product {
    fn tiles(&self, tile: Tile, gpu: &Wgpu) -> usize {
        let (rows, columns) = match tile {
            Tile::Shared([rows, columns, _], _) => (rows, columns),
            Tile::Direct([rows, columns]) => (rows, columns * tile.lanes(gpu)),
        };
        self.batches * self.m.div_ceil(rows as usize) * self.n.div_ceil(columns as usize)
    }

    /// What is best by reckoning alone.
    fn fallback(&self, gpu: &Wgpu) -> Tile {
        match gpu.is_processor() {
            true if self.vectors && self.m > 8 => DIRECT,
            true if self.vectors => DIRECT_FLAT,
            true if self.m > 32 => HUGE,
            _ if self.tiles(LARGE, gpu) < FEW => SMALL,
            _ => LARGE,
        }
    }

    /// Whether a tile is worth its measurement. A processor's driver takes seconds to compile a text of large tiles, and is fastest without workgroup
    /// memory wherever operands are vectors (`benches/results/wgsl-llvmpipe.md`).
    fn promises(&self, tile: Tile, gpu: &Wgpu) -> bool {
        match (self.vectors, tile) {
            (vectors, Tile::Direct(_)) => vectors,
            (true, Tile::Shared(..)) => !gpu.is_processor(),
            (false, Tile::Shared(..)) => !gpu.is_processor() || [LARGE, SMALL, HUGE].contains(&tile),
        }
    }

    /// Shapes that are within a factor of two in every size are taken to be alike.
    fn class(&self, name: &str) -> String {
        let [b, m, n, k] = [self.batches, self.m, self.n, self.k].map(usize::next_power_of_two);
        format!("{name}{} {b} {m} {n} {k}", if self.vectors { " of vectors" } else { "" })
    }

    /// Launches `kernel`, whose text gives the operands and `finish`.
    pub fn launch(&self, kernel: Kernel<'_>, gpu: &Wgpu) -> Result<()> {
        let kernel = kernel.size("m", self.m).size("n", self.n).size("k", self.k);
        let launch = |tile| self.launch_tiled(kernel.clone(), tile, gpu);
        let tiles: Vec<Tile> = TILES.into_iter().filter(|tile| tile.fits(gpu) && self.promises(*tile, gpu)).collect();
        launch(gpu.tuner.choose(&self.class(kernel.name()), &tiles, self.fallback(gpu), gpu, launch)?)
    }

    fn launch_tiled(&self, kernel: Kernel<'_>, tile: Tile, gpu: &Wgpu) -> Result<()> {
        let kernel = match tile {
            Tile::Shared([rows, columns, depth], side) => kernel
                .then(if self.vectors { include_str!("product_fill_vectors.wgsl") } else { include_str!("product_fill.wgsl") })
                .then(include_str!("product.wgsl"))
                .tile("TILE_M", rows)
                .tile("TILE_N", columns)
                .tile("TILE_K", depth)
                .constant("SIDE", side)
                .constant("VECTORS", side / 4),
            Tile::Direct([rows, columns]) => {
                kernel.then(include_str!("product_direct.wgsl")).constant("ROWS", rows).constant("COLUMNS", columns)
            }
        };
        kernel.lanes(tile.lanes(gpu)).launch(self.tiles(tile, gpu), gpu)
    }
}
