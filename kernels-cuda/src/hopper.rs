//! Products and attention on Hopper: what the copy engine can read, and how products are cut; see `gemm_hopper.cuh`, `attention_tiles_hopper.cuh`.

use tubelet_engine::{DType, Result, Tensor};

use crate::{
    attention::wide,
    backend::CudaBackend,
    driver::{EncodedMap, HOPPER, TensorMap},
    product::{Epilogue, stride},
    sequences::Sizes,
};

/// Rows of a tile of the result, and depth of a step.
const ROWS: usize = 128;
const DEPTH: usize = 64;
/// Rows and columns of a piece of the result, as the copy engine moves it.
const PIECE: usize = 64;
/// A producer and two consumers.
pub(crate) const THREADS: u32 = 384;
/// Multiprocessors of an H100 or H200, whichever this one has: cuts follow from shapes alone.
const MULTIPROCESSORS: usize = 132;
/// The least depth that is worth a part of its own.
const LEAST_DEPTH: usize = 512;

/// A stack of matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    pub address: u64,
    pub rows: usize,
    pub depth: usize,
    /// Whether neighbours along rows are neighbours in memory, and not those along the depth.
    pub across: bool,
    /// Elements from row to row, or from one element of depth to the next; and from matrix to matrix, 0 where one matrix serves all.
    pub line: usize,
    pub matrix: usize,
}

impl Operand {
    /// Encoded for tiles of 128 rows, which across the depth are two.
    pub fn map(&self, cuda: &CudaBackend, dtype: DType, batches: usize) -> Result<EncodedMap> {
        self.tiles(cuda, dtype, batches, if self.across { DEPTH } else { ROWS })
    }

    /// Encoded for pieces of 64 rows and columns: results or a residual, whose depth is the columns.
    pub fn pieces(&self, cuda: &CudaBackend, dtype: DType, batches: usize) -> Result<EncodedMap> {
        self.tiles(cuda, dtype, batches, PIECE)
    }

    fn tiles(&self, cuda: &CudaBackend, dtype: DType, batches: usize, rows: usize) -> Result<EncodedMap> {
        let (side, lines) = if self.across { (self.rows, self.depth) } else { (self.depth, self.rows) };
        // A dimension of one still wants a stride.
        let (matrices, matrix) = if self.matrix == 0 { (1, self.line * lines) } else { (batches, self.matrix) };
        cuda.driver().tensor_map(&TensorMap {
            dtype,
            address: self.address,
            sizes: vec![side, lines, matrices],
            strides: vec![self.line * dtype.size(), matrix * dtype.size()],
            rows: rows as u32,
        })
    }
}

/// The layouts of both operands, in the name of a kernel of `gemm_hopper.cuh`.
pub(crate) fn layouts(x: &Operand, weight: &Operand) -> &'static str {
    match (x.across, weight.across) {
        (false, false) => "",
        (true, false) => "_across_x",
        (false, true) => "_across_weight",
        (true, true) => "_across",
    }
}

/// Results and their residual as the copy engine moves them, if it can: where an epilogue goes by 16 bytes, and no row of a residual serves many.
/// From residual to residual there are `matrix` elements, 0 where one serves all.
pub(crate) fn moved(epilogue: &Epilogue, matrix: usize, dtype: DType) -> Option<(Operand, Option<Operand>)> {
    let (rows, columns) = (epilogue.rows as usize, epilogue.columns as usize);
    let stack = |address, line, matrix| Operand { address, rows, depth: columns, across: false, line, matrix };
    let residual = (epilogue.residual != 0).then(|| stack(epilogue.residual, epilogue.residual_row as usize, matrix));
    // Bias is read in pairs.
    let pairs = epilogue.bias.is_multiple_of(2 * dtype.size() as u64);
    let moves = epilogue.wide == 1 && pairs && residual.is_none_or(|residual| residual.line > 0);
    moves.then(|| (stack(epilogue.y, columns, rows * columns), residual))
}

/// Whether a product of operands that can be read 16 bytes at a time is one for the kernels of Hopper: tiles that would be mostly empty are not.
pub(crate) fn serves(cuda: &CudaBackend, dtype: DType, x: &Operand, weight: &Operand) -> bool {
    let large = |operand: &Operand| operand.rows >= DEPTH && operand.depth >= DEPTH && operand.line > 0;
    cuda.driver().capability() == HOPPER && dtype != DType::F32 && large(x) && large(weight)
}

/// How a product of `rows` × `columns` × `depth`, `batches` times, is cut: by its shape alone, so that its sums have one order everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Columns of a tile: 128, or 256 in pairs that blocks of a cluster share.
    pub columns: usize,
    /// Tiles, or pairs of them, of all parts and batches.
    pub tiles: usize,
    /// Parts along the depth.
    pub splits: usize,
    /// Their depth, a multiple of 64.
    pub split_depth: usize,
}

impl Cut {
    pub fn new(rows: usize, columns: usize, depth: usize, batches: usize) -> Cut {
        // Wide ones come in pairs, of which one may be empty.
        let tiles = |width: usize| rows.div_ceil(ROWS).next_multiple_of(width / 128) * columns.div_ceil(width) * batches;
        // Rounds of all multiprocessors, each as long as its tiles are wide; the wider reads less for its sums.
        let time = |width: usize| tiles(width).div_ceil(MULTIPROCESSORS) * width;
        let width = if time(256) <= time(128) { 256 } else { 128 };
        let parts = (MULTIPROCESSORS / tiles(width).max(1)).clamp(1, depth.div_ceil(LEAST_DEPTH).max(1));
        let split_depth = depth.div_ceil(parts).next_multiple_of(DEPTH).max(DEPTH);
        let splits = depth.div_ceil(split_depth).max(1);
        Cut { columns: width, tiles: tiles(width) / (width / 128) * splits, splits, split_depth }
    }

    /// Blocks for a GPU of so many multiprocessors: one for each, or whole clusters, that go from tile to tile.
    pub fn blocks(&self, multiprocessors: usize) -> usize {
        let cluster = self.columns / 128;
        self.tiles.min((multiprocessors / cluster).max(1)) * cluster
    }

    /// Bytes of shared memory, as `gemm_hopper.cuh` lays it out: four stages, two pieces of results for each consumer, barriers of both.
    pub fn shared(&self) -> usize {
        4 * (ROWS + self.columns) * DEPTH * 2 + 2 * 2 * PIECE * PIECE * 2 + (4 * 2 + 2 * 2) * 8
    }
}

/// The widths of heads that there are kernels for.
const HEAD_WIDTHS: [u32; 4] = [64, 80, 88, 128];
/// Fewer queries, keys or columns would leave most of a tile empty.
const LEAST_OF_HEAD: u32 = 64;

/// The kernel for Hopper that serves these heads, by its width: the copy engine reads whole rows of 16 bytes, of operands without repetition.
pub(crate) fn head_width(cuda: &CudaBackend, sizes: &Sizes, operands: &[&Tensor]) -> Result<Option<u32>> {
    let plain = |x: &Tensor| (0..4).all(|d| x.shape()[d] == 1 || stride(x, d) > 0);
    let served = cuda.driver().capability() == HOPPER
        && sizes.width == sizes.value_width
        && sizes.width.is_multiple_of(8)
        && sizes.queries.min(sizes.keys).min(sizes.width) >= LEAST_OF_HEAD
        && operands.iter().all(|x| x.dtype() != DType::F32 && plain(x));
    for x in operands {
        if !served || wide(cuda, x)? == 0 {
            return Ok(None);
        }
    }
    Ok(HEAD_WIDTHS.into_iter().find(|&width| sizes.width <= width))
}

/// An operand `[B, X, Y, heads, width]` as tiles of its columns and of so many of its rows along `axis`.
pub(crate) fn head_map(cuda: &CudaBackend, x: &Tensor, axis: usize, rows: usize) -> Result<EncodedMap> {
    let order = [4, axis, 3, 3 - axis, 0];
    // A dimension of one still wants a stride.
    let bytes = |d: usize| stride(x, d).max(8) * x.dtype().size();
    cuda.driver().tensor_map(&TensorMap {
        dtype: x.dtype(),
        address: cuda.address(x)?,
        sizes: order.map(|d| x.shape()[d]).into(),
        strides: order[1..].iter().map(|&d| bytes(d)).collect(),
        rows: rows as u32,
    })
}

/// Bytes of shared memory of so many rows of a head: pieces of 64 columns.
pub(crate) fn head_tile(rows: usize, width: u32) -> usize {
    rows * 128 * width.div_ceil(64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_depth_and_tiles_fit() {
        for (rows, columns, depth, batches) in
            [(197, 768, 768, 1), (12_544, 3072, 768, 1), (768, 768, 50_000, 1), (64, 64, 64, 1), (1569, 2304, 768, 4)]
        {
            let cut = Cut::new(rows, columns, depth, batches);
            assert!(cut.splits * cut.split_depth >= depth && (cut.splits - 1) * cut.split_depth < depth, "{cut:?}");
            assert!(cut.split_depth.is_multiple_of(DEPTH) && cut.shared() <= 227 << 10, "{cut:?}");
        }
        // One round of narrow tiles is shorter than one of wide ones; two are not.
        assert_eq!((Cut::new(1024, 1024, 512, 1).columns, Cut::new(4096, 4096, 4096, 1).columns), (128, 256));
    }
}
