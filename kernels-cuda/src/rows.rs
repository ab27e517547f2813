//! What launchers of kernels over rows share: operands of one shape, row by row; see `rows.cuh`.

use tubelet_engine::{DType, Result, Tensor};

use crate::{backend::CudaBackend, nest::Nest};

/// Rows of a block, one warp each.
const WARPS: usize = 8;
/// Bytes that a lane moves at once.
const BYTES: usize = 16;
/// Columns of a block that sums over rows.
const COLUMNS: usize = 32;
/// Rows that are worth a block of their own when columns are summed, and the most such blocks.
const SEGMENT: usize = 64;
const SEGMENTS: usize = 64;

/// `N` operands `[…, columns]` of one shape.
pub(crate) struct Rows<const N: usize> {
    /// Of rows.
    pub nest: Nest<N>,
    /// From column to column.
    pub stride: [i64; N],
    pub rows: u32,
    pub columns: u32,
    /// Whether neighbours can be moved at once.
    pub wide: u32,
}

impl<const N: usize> Rows<N> {
    pub fn new(cuda: &CudaBackend, op: &'static str, operands: [&Tensor; N]) -> Result<Rows<N>> {
        let (&columns, shape) = operands[0].shape().split_last().unwrap_or((&1, &[]));
        let strides = operands.map(|x| x.layout().strides());
        let nest = Nest::new(shape, strides.map(|s| &s[..shape.len()]));
        let stride = strides.map(|s| s.last().map_or(1, |&s| s as i64));
        let mut wide = stride == [1; N];
        for x in operands {
            let lanes = BYTES / x.dtype().size();
            wide &= columns.is_multiple_of(lanes) && nest.steps_by(lanes) && cuda.address(x)?.is_multiple_of(BYTES as u64);
        }
        let rows = cuda.count(op, shape.iter().product())?;
        Ok(Rows { nest, stride, rows, columns: cuda.count(op, columns)?, wide: wide.into() })
    }

    /// The same, but one by one where factors of the columns do not begin at a multiple of 16 bytes.
    pub fn beside(mut self, cuda: &CudaBackend, factors: [Option<&Tensor>; 2]) -> Result<Self> {
        for x in factors.into_iter().flatten() {
            if !cuda.address(x)?.is_multiple_of(BYTES as u64) {
                self.wide = 0;
            }
        }
        Ok(self)
    }

    /// Threads of a kernel that takes neighbours of `dtype` at once where it can, and elements one by one where not.
    pub fn packs(&self, dtype: DType) -> u32 {
        let lanes = if self.wide == 0 { 1 } else { BYTES / dtype.size() };
        self.rows * (self.columns / lanes as u32)
    }

    /// Blocks of a kernel with a warp for each row.
    pub fn blocks(&self) -> usize {
        (self.rows as usize).div_ceil(WARPS)
    }

    /// How sums over rows are cut.
    pub fn segments(&self) -> Segments {
        Segments::new(self.rows as usize, self.columns as usize)
    }
}

/// How the sums over rows of each column are cut: by the shape alone, so that they have one order.
#[derive(Clone, Copy)]
pub(crate) struct Segments {
    /// Parts that the rows are dealt to.
    pub count: u32,
    /// Blocks of the kernel that sums each part.
    pub blocks: usize,
}

impl Segments {
    pub fn new(rows: usize, columns: usize) -> Segments {
        let count = rows.div_ceil(SEGMENT).clamp(1, SEGMENTS);
        Segments { count: count as u32, blocks: count * columns.div_ceil(COLUMNS) }
    }

    /// Bytes of `sums` partial sums for each column.
    pub fn scratch(&self, sums: usize, columns: u32) -> usize {
        self.count as usize * sums * columns as usize * 4
    }
}
