//! What launchers of tiled products share: the epilogue, and how a product is cut into tiles.

use tubelet_engine::{DType, Result, Tensor};

use crate::backend::CudaBackend;

parameters!(
    /// See `Epilogue` in `product.cuh`.
    Epilogue {
        bias: u64,
        residual: u64,
        y: u64,
        residual_row: i64,
        residual_column: i64,
        rows: u32,
        columns: u32,
        period: u32,
        alpha: f32,
        function: u32,
        wide: u32,
    }
);

/// Elements of 16 bytes.
pub(crate) fn lanes(dtype: DType) -> usize {
    16 / dtype.size()
}

/// Whether 16 bytes from `address` on, and from any of these strides further, are aligned.
pub(crate) fn aligned(dtype: DType, address: u64, strides: &[usize]) -> bool {
    address.is_multiple_of(16) && strides.iter().all(|s| s.is_multiple_of(lanes(dtype)))
}

/// The strides of dimensions that are longer than one; the others' mean nothing.
pub(crate) fn stride(x: &Tensor, d: usize) -> usize {
    if x.shape()[d] == 1 { 0 } else { x.layout().strides()[d] }
}

/// How a product of `rows` × `columns` × `depth`, `batches` times, is cut: by its shape alone, so that its sums have one order everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Tiles of 128 × 128; else of 64 × 64.
    pub large: bool,
    /// Blocks of one part, of all batches.
    pub tiles: usize,
    /// Parts along the depth.
    pub splits: usize,
    /// Their depth, a multiple of 32.
    pub split_depth: usize,
}

/// Blocks that keep a large GPU busy.
const BUSY: usize = 128;
/// The least depth that is worth a part of its own.
const LEAST_DEPTH: usize = 512;

impl Cut {
    pub fn new(rows: usize, columns: usize, depth: usize, batches: usize) -> Cut {
        let tiles = |size: usize| rows.div_ceil(size) * columns.div_ceil(size) * batches;
        let large = tiles(128) >= BUSY || (rows >= 128 && columns >= 128 && depth >= 16 * LEAST_DEPTH);
        let tiles = tiles(if large { 128 } else { 64 });
        let wanted = (BUSY / tiles.max(1)).clamp(1, depth.div_ceil(LEAST_DEPTH).max(1));
        let split_depth = depth.div_ceil(wanted).next_multiple_of(32).max(32);
        Cut { large, tiles, splits: depth.div_ceil(split_depth).max(1), split_depth }
    }

    /// Bytes of shared memory that the kernel wants, as `SHARED` in `product.cuh` and `mma.cuh`.
    pub fn shared(&self, dtype: DType) -> usize {
        let tile = if self.large { 128 } else { 64 };
        match dtype {
            DType::F32 => tile * (tile + 4) * 4,
            _ => (2 * tile * 32 * 2 * 4).max(tile * (tile + 8) * 4),
        }
    }

    /// Threads of a block.
    pub fn threads(&self, dtype: DType) -> u32 {
        if dtype == DType::F32 || self.large { 256 } else { 128 }
    }

    /// The kernel's size in its name.
    pub fn size(&self) -> &'static str {
        if self.large { "large" } else { "small" }
    }
}

/// The bias of an epilogue, contiguous as kernels want it, to be kept until the launch.
pub(crate) fn dense(x: Option<&Tensor>) -> Result<Option<Tensor>> {
    x.map(|x| x.detach().contiguous()).transpose()
}

/// Whether the epilogue can move 16 bytes at a time: a residual `[…, M, N]` with these strides, if there is one.
pub(crate) fn wide_result(cuda: &CudaBackend, columns: usize, y: &Tensor, residual: Option<&Tensor>) -> Result<bool> {
    let dtype = y.dtype();
    if !columns.is_multiple_of(lanes(dtype)) || !aligned(dtype, cuda.address(y)?, &[]) {
        return Ok(false);
    }
    let Some(residual) = residual else { return Ok(true) };
    let rank = residual.rank();
    let rows: Vec<usize> = (0..rank - 1).map(|d| stride(residual, d)).collect();
    Ok(stride(residual, rank - 1) == 1 && aligned(dtype, cuda.address(residual)?, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_depth() {
        for (rows, columns, depth, batches) in
            [(768, 768, 50_000, 1), (1, 1, 0, 1), (64, 64, 513, 1), (12_544, 768, 768, 1), (5, 7, 1000, 40)]
        {
            let cut = Cut::new(rows, columns, depth, batches);
            assert!(cut.splits * cut.split_depth >= depth && (cut.splits - 1) * cut.split_depth < depth.max(1), "{cut:?}");
            assert!(cut.split_depth.is_multiple_of(32));
        }
    }
}
