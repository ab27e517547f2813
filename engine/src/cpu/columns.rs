//! Sums over rows, per column: the gradients of scales and biases.

use super::{Cpu, Shared};
use crate::Result;

/// Rows of a block. The blocks, and so the order of the additions, depend on the shape alone.
pub(super) const ROWS: usize = 32;

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
    let column = |c: usize| {
        // SAFETY: every block has written its sums.
        let sum: f64 = (0..blocks).map(|block| f64::from(unsafe { *base.get().add(block * width + c) })).sum();
        sum as f32
    };
    Ok((0..width).map(column).collect())
}
