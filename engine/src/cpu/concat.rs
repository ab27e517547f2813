//! Concatenation: the rows of each operand copied to their place.

use super::{
    Cpu, Shared,
    strided::{Strided, TASK, row_offset},
    with_word,
};
use crate::{Element, Result, Tensor, ops::concat::Concat};

pub fn run(op: &Concat, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let mut start = 0;
    for x in inputs.iter().flatten() {
        let size = x.shape()[op.axis];
        if x.elements() > 0 {
            let place = outputs[0].narrow(op.axis, start, size)?;
            with_word!("concat", x.dtype(), W => copy_rows::<W>(x, &place, cpu))?;
        }
        start += size;
    }
    Ok(())
}

/// Copies `x` into the view `place` of an output.
fn copy_rows<W: Element>(x: &Tensor, place: &Tensor, cpu: &Cpu) -> Result<()> {
    let rows = Strided::<W>::new(x, cpu)?;
    let base = Shared(cpu.ptr::<W>(place)?);
    let together = (TASK / rows.len).max(1);
    cpu.pool.for_each(rows.rows.div_ceil(together), |task| {
        for row in task * together..((task + 1) * together).min(rows.rows) {
            // SAFETY: rows lie in their layouts, and each task writes its own.
            unsafe {
                let src = rows.base.get().add(rows.offset(row));
                let dst = base.get().add(row_offset(place.layout(), 1, row));
                if rows.step == 1 {
                    dst.copy_from_nonoverlapping(src, rows.len);
                } else {
                    (0..rows.len).for_each(|j| dst.add(j).write(*src.add(j * rows.step)));
                }
            }
        }
    });
    Ok(())
}
