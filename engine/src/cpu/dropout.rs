//! Dropout: each element times the factor of its draw.

use super::{
    Cpu, Shared,
    strided::{Strided, TASK},
    with_float,
};
use crate::{Element, Result, Tensor, ops::dropout::Dropout};

pub fn run(op: &Dropout, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_float!("dropout", x.dtype(), T => typed::<T>(op, x, &outputs[0], cpu))
}

fn typed<T: Element>(op: &Dropout, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let run: usize = x.shape()[x.rank() - op.shared..].iter().product();
    let rows = if x.layout().is_contiguous() { Strided::<T>::flat(x, cpu)? } else { Strided::new(x, cpu)? };
    let base = Shared(cpu.ptr::<T>(out)?);
    let pieces = rows.len.div_ceil(TASK);
    cpu.pool.for_each(rows.rows * pieces, |task| {
        let (row, low) = (task / pieces, task % pieces * TASK);
        let (mut draw, mut factor) = (u64::MAX, 0.0);
        for j in low..(low + TASK).min(rows.len) {
            let i = row * rows.len + j;
            if (i / run) as u64 != draw {
                draw = (i / run) as u64;
                factor = op.factor(draw);
            }
            // SAFETY: the element lies in the row, and each task writes its own part of the output.
            unsafe {
                let x = (*rows.base.get().add(rows.offset(row) + j * rows.step)).to_f32();
                base.get().add(i).write(T::from_f32(x * factor));
            }
        }
    });
    Ok(())
}
