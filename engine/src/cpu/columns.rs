//! Sums over rows, per column: the gradients of scales and biases.

use std::slice;

use super::{Cpu, Shared};
use crate::Result;

/// Rows of a block. The blocks, and so the order of the additions, depend on the shape alone.
pub(super) const ROWS: usize = 32;

/// Columns whose blocks are added up together, row by row: one column after the other would walk through memory in steps of a row, and miss L1
/// at each.
const COLUMNS: usize = 128;

/// Calls `body(block, sums, scratch)` for each of the blocks of [`ROWS`] rows, with `width` sums of its own, set to 0, and scratch of `floats`;
/// then adds up the blocks' sums in their order.
pub(super) fn sum_blocks<F>(cpu: &Cpu, rows: usize, width: usize, floats: usize, body: F) -> Result<Vec<f32>>
where
    F: Fn(usize, *mut f32, *mut f32) + Sync,
{
    let blocks = rows.div_ceil(ROWS);
    let partial = cpu.memory.allocate((blocks * width).max(1) * size_of::<f32>())?;
    let base = Shared(partial.ptr().cast::<f32>());
    cpu.with_scratch(blocks, floats, |block, scratch| {
        // SAFETY: each block has `width` sums of its own.
        let sums = unsafe { base.get().add(block * width) };
        // SAFETY: as above.
        unsafe { sums.write_bytes(0, width) };
        body(block, sums, scratch.ptr().cast());
    })?;
    let mut totals = vec![0f32; width];
    let out = Shared(totals.as_mut_ptr());
    cpu.pool.for_each(width.div_ceil(COLUMNS), |task| {
        let low = task * COLUMNS;
        let mut sums = [0f64; COLUMNS];
        let sums = &mut sums[..COLUMNS.min(width - low)];
        for block in 0..blocks {
            // SAFETY: every block has written its sums.
            let part = unsafe { slice::from_raw_parts(base.get().add(block * width + low), sums.len()) };
            sums.iter_mut().zip(part).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        // SAFETY: each task writes its own columns.
        sums.iter().enumerate().for_each(|(c, &sum)| unsafe { out.get().add(low + c).write(sum as f32) });
    });
    Ok(totals)
}
