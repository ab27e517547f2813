//! The tiles of the matrix products that gemm and the convolutions are made of; see `product.wgsl`.

use tubelet_engine::Result;

use crate::{device::Wgpu, kernel::Kernel};

/// `batches` products of `m` by `n` by `k`.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub batches: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// Rows, columns and depth of a tile.
type Tile = [u32; 3];
/// For adapters with wide processors: 256 invocations, 8 KiB of workgroup memory.
const LARGE: Tile = [64, 64, 16];
/// Where the result has few tiles of 64 x 64: 64 invocations.
const SMALL: Tile = [32, 32, 16];
/// Where a subgroup of 8 is the vector of a processor core and a barrier between subgroups is slow: one subgroup a tile.
const CORE: Tile = [8, 16, 32];
/// Below so many tiles a device with many multiprocessors is not filled.
const FEW: usize = 128;

impl Product {
    fn tiles(&self, [rows, columns, _]: Tile) -> usize {
        self.batches * self.m.div_ceil(rows as usize) * self.n.div_ceil(columns as usize)
    }

    fn tile(&self, gpu: &Wgpu) -> Tile {
        match () {
            () if gpu.is_processor() => CORE,
            () if self.tiles(LARGE) < FEW => SMALL,
            () => LARGE,
        }
    }

    /// Launches `kernel`, whose source ends with `product.wgsl`.
    pub fn launch(&self, kernel: Kernel<'_>, gpu: &Wgpu) -> Result<()> {
        let tile = self.tile(gpu);
        kernel
            .lanes(tile[0] / 4 * (tile[1] / 4))
            .size("m", self.m)
            .size("n", self.n)
            .size("k", self.k)
            .constant("TILE_M", tile[0])
            .constant("TILE_N", tile[1])
            .constant("TILE_K", tile[2])
            .launch(self.tiles(tile), gpu)
    }
}
