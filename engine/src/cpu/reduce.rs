//! Reductions in f64: where the last dimension stays, rows are added to a row of sums; where it goes, each row becomes one number.

use super::{
    Cpu, Shared,
    strided::{Strided, TASK},
    with_float,
};
use crate::{
    Element, Result, Tensor,
    ops::reduce::{Reduce, Reduction},
};

pub fn run(op: &Reduce, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_float!("reduce", x.dtype(), T => typed::<T>(op, x, &outputs[0], cpu))
}

fn typed<T: Element>(op: &Reduce, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let last = x.rank().saturating_sub(1);
    let kept = (0..x.rank()).filter(|d| !op.axes.contains(d));
    // The kept dimensions first; the last one stays last if it is kept.
    let keeps_rows = x.rank() > 0 && !op.axes.contains(&last);
    let order: Vec<usize> = if keeps_rows {
        kept.filter(|&d| d != last).chain(op.axes.iter().copied()).chain([last]).collect()
    } else {
        kept.chain(op.axes.iter().copied()).collect()
    };
    let count: usize = op.axes.iter().map(|&d| x.shape()[d]).product();
    let rows = Strided::<T>::new(&x.permute(&order)?, cpu)?;
    let width = if keeps_rows { rows.len } else { 1 };
    let results = out.elements() / width;
    // Rows of the operand that become one row of the result.
    let group = if keeps_rows { count } else { count / rows.len.max(1) };
    let base = Shared(cpu.ptr::<T>(out)?);
    let together = (TASK / (count * width).max(1)).max(1);
    cpu.pool.for_each(results.div_ceil(together), |task| {
        let mut sums = vec![0f64; width];
        for result in task * together..((task + 1) * together).min(results) {
            sums.fill(if op.reduction == Reduction::Max { f64::NEG_INFINITY } else { 0.0 });
            for row in result * group..(result + 1) * group {
                // SAFETY: rows lie in the layout.
                let at = |j: usize| unsafe { (*rows.base.get().add(rows.offset(row) + j * rows.step)).to_f64() };
                if keeps_rows {
                    sums.iter_mut().enumerate().for_each(|(j, sum)| *sum = join(op.reduction, *sum, at(j)));
                } else {
                    sums[0] = (0..rows.len).fold(sums[0], |sum, j| join(op.reduction, sum, at(j)));
                }
            }
            for (j, sum) in sums.iter().enumerate() {
                let y = if op.reduction == Reduction::Mean { sum / count as f64 } else { *sum };
                // SAFETY: each task writes its own results.
                unsafe { base.get().add(result * width + j).write(T::from_f64(y)) };
            }
        }
    });
    Ok(())
}

#[inline(always)]
fn join(reduction: Reduction, a: f64, b: f64) -> f64 {
    match reduction {
        Reduction::Sum | Reduction::Mean => a + b,
        Reduction::Max if b.is_nan() || b > a => b,
        Reduction::Max => a,
    }
}
