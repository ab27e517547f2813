//! Reductions in f64: where the last dimension stays, rows are added to a row of sums; where it goes, blocks of rows become numbers, and these one.
//! How the operand is cut depends on its shape alone, and with it the order of the additions.

use super::{
    Cpu, Shared,
    convert::load,
    simd::{Kernel, Simd},
    strided::{Strided, TASK},
    with_float,
};
use crate::{
    Element, Result, Tensor,
    ops::reduce::{Reduce, Reduction},
};

/// Columns of a task: their sums stay in L1.
const COLUMNS: usize = 128;

/// Lanes of the widest vector, and chains of sums of a row.
const LANES: usize = 16;

pub fn run(op: &Reduce, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_float!("reduce", x.dtype(), T => typed::<T>(op, x, &outputs[0], cpu))
}

fn typed<T: Element>(op: &Reduce, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let last = x.rank().saturating_sub(1);
    let kept = (0..x.rank()).filter(|d| !op.axes.contains(d));
    let count: usize = op.axes.iter().map(|&d| x.shape()[d]).product();
    // The kept dimensions first; the last one stays last if it is kept.
    if x.rank() > 0 && !op.axes.contains(&last) {
        let order: Vec<usize> = kept.filter(|&d| d != last).chain(op.axes.iter().copied()).chain([last]).collect();
        return columns::<T>(op.reduction, &Strided::new(&x.permute(&order)?, cpu)?, count, out, cpu);
    }
    let flat = op.axes.len() == x.rank() && x.layout().is_contiguous();
    let order: Vec<usize> = kept.chain(op.axes.iter().copied()).collect();
    let rows = if flat { Strided::<T>::flat(x, cpu)? } else { Strided::new(&x.permute(&order)?, cpu)? };
    numbers(op.reduction, &rows, count, out, cpu)
}

/// Each `count` rows become one.
fn columns<T: Element>(reduction: Reduction, rows: &Strided<T>, count: usize, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let (width, results) = (rows.len, out.elements() / rows.len);
    let base = Shared(cpu.ptr::<T>(out)?);
    let pieces = width.div_ceil(COLUMNS);
    let together = (TASK / (count * width.min(COLUMNS)).max(1)).max(1);
    cpu.pool.for_each(results.div_ceil(together) * pieces, |task| {
        let low = task % pieces * COLUMNS;
        let width = COLUMNS.min(width - low);
        for result in task / pieces * together..((task / pieces + 1) * together).min(results) {
            let mut sums = [start(reduction); COLUMNS];
            for row in result * count..(result + 1) * count {
                // SAFETY: rows lie in the layout.
                let from = unsafe { rows.base.get().add(rows.offset(row) + low * rows.step) };
                let row = Row { reduction, x: from.cast_const(), step: rows.step, len: width };
                cpu.level.run(Join { row, sums: &mut sums, apart: true });
            }
            for (j, &sum) in sums.iter().enumerate().take(width) {
                // SAFETY: each task writes its own results.
                unsafe { base.get().add(result * rows.len + low + j).write(T::from_f64(finish(reduction, sum, count))) };
            }
        }
    });
    Ok(())
}

/// Each `count` elements, which are some rows, become one.
fn numbers<T: Element>(reduction: Reduction, rows: &Strided<T>, count: usize, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let (results, base) = (out.elements(), Shared(cpu.ptr::<T>(out)?));
    // Rows of a result; blocks of them, or of pieces of them.
    let group = count / rows.len.max(1);
    let (per_block, pieces) = ((TASK / rows.len.max(1)).max(1), rows.len.div_ceil(TASK));
    let blocks = group.div_ceil(per_block) * pieces;
    let block = |result: usize, block: usize| {
        let (low, first) = (block % pieces * TASK, block / pieces * per_block);
        let mut sums = [start(reduction); COLUMNS];
        for row in first..(first + per_block).min(group) {
            // SAFETY: rows lie in the layout.
            let x = unsafe { rows.base.get().add(rows.offset(result * group + row) + low * rows.step) };
            let len = TASK.min(rows.len - low);
            let row = Row { reduction, x: x.cast_const(), step: rows.step, len };
            cpu.level.run(Join { row, sums: &mut sums, apart: false });
        }
        sums[..LANES].iter().fold(start(reduction), |a, &b| join(reduction, a, b))
    };
    let write = |result: usize, total: f64| {
        // SAFETY: each result is written once.
        unsafe { base.get().add(result).write(T::from_f64(finish(reduction, total, count))) };
    };
    if blocks <= 1 {
        let together = (TASK / count.max(1)).max(1);
        cpu.pool.for_each(results.div_ceil(together), |task| {
            for result in task * together..((task + 1) * together).min(results) {
                write(result, if blocks == 0 { start(reduction) } else { block(result, 0) });
            }
        });
        return Ok(());
    }
    let mut totals = vec![0f64; results * blocks];
    let at = Shared(totals.as_mut_ptr());
    // SAFETY: each task writes its own number.
    cpu.pool.for_each(results * blocks, |i| unsafe { at.get().add(i).write(block(i / blocks, i % blocks)) });
    for (result, totals) in totals.chunks(blocks).enumerate() {
        write(result, totals.iter().fold(start(reduction), |a, &b| join(reduction, a, b)));
    }
    Ok(())
}

/// Elements of a row.
struct Row<T> {
    reduction: Reduction,
    x: *const T,
    step: usize,
    len: usize,
}

/// Joins the elements of a row with as many sums, or with [`LANES`] of them in turn.
struct Join<'a, T> {
    row: Row<T>,
    sums: &'a mut [f64; COLUMNS],
    apart: bool,
}

impl<T: Element> Kernel for Join<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (chunks, _) = self.sums.as_chunks_mut::<LANES>();
        if self.apart {
            for (i, chunk) in chunks.iter_mut().enumerate().take(self.row.len.div_ceil(LANES)) {
                self.row.chunk::<S>(i * LANES, chunk);
            }
            return;
        }
        // In registers while the row goes by.
        let mut chains = chunks[0];
        for j in (0..self.row.len).step_by(LANES) {
            self.row.chunk::<S>(j, &mut chains);
        }
        chunks[0] = chains;
    }
}

impl<T: Element> Row<T> {
    /// Joins elements `j..` with a sum each.
    #[inline(always)]
    fn chunk<S: Simd>(&self, j: usize, sums: &mut [f64; LANES]) {
        let (count, mut row) = (LANES.min(self.len - j), [0f32; LANES]);
        for lane in (0..count).step_by(S::LANES) {
            // SAFETY: the row is valid for `len`; LANES are a multiple of every level's.
            unsafe {
                let y = load::<S, T>(self.x.add((j + lane) * self.step), self.step, S::LANES.min(count - lane));
                S::store(row.as_mut_ptr().add(lane), y);
            }
        }
        match (self.reduction, count) {
            (Reduction::Sum | Reduction::Mean, LANES) => (0..LANES).for_each(|i| sums[i] += f64::from(row[i])),
            (Reduction::Squares, LANES) => (0..LANES).for_each(|i| sums[i] += f64::from(row[i]) * f64::from(row[i])),
            (reduction, count) => {
                (0..count).for_each(|i| sums[i] = join(reduction, sums[i], of(reduction, f64::from(row[i]))));
            }
        }
    }
}

/// What is joined with nothing.
fn start(reduction: Reduction) -> f64 {
    if reduction == Reduction::Max { f64::NEG_INFINITY } else { 0.0 }
}

/// What an element adds.
#[inline(always)]
fn of(reduction: Reduction, x: f64) -> f64 {
    if reduction == Reduction::Squares { x * x } else { x }
}

#[inline(always)]
fn join(reduction: Reduction, a: f64, b: f64) -> f64 {
    match reduction {
        Reduction::Sum | Reduction::Mean | Reduction::Squares => a + b,
        Reduction::Max if b.is_nan() || b > a => b,
        Reduction::Max => a,
    }
}

fn finish(reduction: Reduction, total: f64, count: usize) -> f64 {
    if reduction == Reduction::Mean { total / count as f64 } else { total }
}
