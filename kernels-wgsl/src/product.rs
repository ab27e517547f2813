//! The tiles of the matrix products that gemm and the convolutions are made of; see `product.wgsl`.

use tubelet_engine::Result;

use crate::{device::Wgpu, kernel::Kernel, tuner::Tile};

/// `batches` products of `m` by `n` by `k`.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub batches: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// 256 invocations, 8 KiB of workgroup memory.
const LARGE: Tile = [64, 64, 16, 4];
/// Where the result has few tiles of 64 x 64: 64 invocations.
const SMALL: Tile = [32, 32, 16, 4];
/// Most work for each number that is brought in: what a processor wants, which brings them in one by one (twice as fast as [`LARGE`] on Mesa's
/// software device).
const HUGE: Tile = [128, 128, 16, 8];
/// What the tuner tries.
const TILES: [Tile; 5] = [LARGE, SMALL, [64, 64, 16, 8], [128, 64, 16, 8], HUGE];
/// Below so many tiles a device with many multiprocessors is not filled.
const FEW: usize = 128;

impl Product {
    fn tiles(&self, [rows, columns, ..]: Tile) -> usize {
        self.batches * self.m.div_ceil(rows as usize) * self.n.div_ceil(columns as usize)
    }

    /// What is best by reckoning alone.
    fn fallback(&self, gpu: &Wgpu) -> Tile {
        match () {
            () if gpu.is_processor() && self.m > 32 => HUGE,
            () if self.tiles(LARGE) < FEW => SMALL,
            () => LARGE,
        }
    }

    /// Shapes that are within a factor of two in every size are taken to be alike.
    fn class(&self, name: &str) -> String {
        let [b, m, n, k] = [self.batches, self.m, self.n, self.k].map(usize::next_power_of_two);
        format!("{name} {b} {m} {n} {k}")
    }

    /// Launches `kernel`, whose source ends with `product.wgsl`.
    pub fn launch(&self, kernel: Kernel<'_>, gpu: &Wgpu) -> Result<()> {
        let launch = |tile| self.launch_tiled(kernel.clone(), tile, gpu);
        launch(gpu.tuner.choose(&self.class(kernel.name()), &TILES, self.fallback(gpu), gpu, launch)?)
    }

    fn launch_tiled(&self, kernel: Kernel<'_>, tile: Tile, gpu: &Wgpu) -> Result<()> {
        kernel
            .lanes(tile[0] / tile[3] * (tile[1] / tile[3]))
            .size("m", self.m)
            .size("n", self.n)
            .size("k", self.k)
            .constant("TILE_M", tile[0])
            .constant("TILE_N", tile[1])
            .constant("TILE_K", tile[2])
            .constant("SIDE", tile[3])
            .launch(self.tiles(tile), gpu)
    }
}
