//! What launchers of kernels over rows share: operands of one shape, row by row; see `rows.cuh`.

use tubelet_engine::{Result, Tensor};

use crate::{backend::CudaBackend, nest::Nest};

/// Rows of a block, one warp each.
const WARPS: usize = 8;
/// Columns that a lane takes at once.
const LANES: usize = 4;
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
        let mut wide = columns.is_multiple_of(LANES) && stride == [1; N] && nest.steps_by(LANES);
        for x in operands {
            wide &= cuda.address(x)?.is_multiple_of((LANES * x.dtype().size()) as u64);
        }
        let rows = cuda.count(op, shape.iter().product())?;
        Ok(Rows { nest, stride, rows, columns: cuda.count(op, columns)?, wide: wide.into() })
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
