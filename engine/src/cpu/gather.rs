//! Whole rows of the last dimension, chosen along one other.

use super::{
    Cpu, Shared,
    strided::{Strided, TASK, row_offset},
    with_word,
};
use crate::{Element, Result, Tensor, ops::gather::Gather};

pub fn run(op: &Gather, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x), Some(indices)] = *inputs else { return Ok(()) };
    with_word!("gather", x.dtype(), W => typed::<W>(op.axis, x, indices, &outputs[0], cpu))
}

fn typed<W: Element>(axis: usize, x: &Tensor, indices: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let (size, stride) = (x.shape()[axis], x.layout().strides()[axis]);
    let (len, step) = (x.shape()[x.rank() - 1], x.layout().strides()[x.rank() - 1]);
    // The operand with every row of the result at the first position along the axis; the index adds the rest.
    let mut shape = out.shape().to_vec();
    shape[axis] = 1;
    let origin = x.narrow(axis, 0, 1)?.reshape(&shape)?.broadcast_to(out.shape())?;
    let (source, chosen) = (Strided::<W>::new(&origin, cpu)?, Shared(cpu.ptr::<i32>(indices)?));
    let base = Shared(cpu.ptr::<W>(out)?);
    let together = (TASK / len).max(1);
    cpu.pool.for_each(source.rows.div_ceil(together), |task| {
        for row in task * together..((task + 1) * together).min(source.rows) {
            // SAFETY: the index is clamped to the axis, rows lie in their layouts, and each task writes its own.
            unsafe {
                let index = *chosen.get().add(row_offset(indices.layout(), 0, row));
                let index = (index.max(0) as usize).min(size - 1);
                let src = source.base.get().add(source.offset(row) + index * stride);
                let dst = base.get().add(row * len);
                if step == 1 {
                    dst.copy_from_nonoverlapping(src, len);
                } else {
                    (0..len).for_each(|j| dst.add(j).write(*src.add(j * step)));
                }
            }
        }
    });
    Ok(())
}
