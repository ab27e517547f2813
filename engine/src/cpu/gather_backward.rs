//! Gradient of a selection: a task owns the rows along the axis at one other position, and adds to them in the gradient's order.

use super::{
    Cpu, Shared,
    strided::{Strided, row_offset},
    with_float,
};
use crate::{Element, Result, Tensor, ops::gather_backward::GatherBackward};

pub fn run(op: &GatherBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(gradient), Some(indices)] = *inputs else { return Ok(()) };
    with_float!("gather_backward", gradient.dtype(), T => typed::<T>(op, gradient, indices, &outputs[0], cpu))
}

fn typed<T: Element>(op: &GatherBackward, gradient: &Tensor, indices: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let g = gradient.shape();
    let (chosen, channels) = (g[op.axis], g[g.rank() - 1]);
    let outer: usize = g[..op.axis].iter().product();
    let inner: usize = g[op.axis + 1..g.rank() - 1].iter().product();
    let (rows, picked) = (Strided::<T>::new(gradient, cpu)?, Shared(cpu.ptr::<i32>(indices)?));
    let base = Shared(cpu.ptr::<T>(out)?);
    let floats = op.size * channels;
    cpu.with_scratch(outer * inner, floats, |task, scratch| {
        let (o, i) = (task / inner, task % inner);
        // SAFETY: the scratch holds the rows of one position, and belongs to this task.
        let sums = unsafe { std::slice::from_raw_parts_mut(scratch.ptr().cast::<f32>(), floats) };
        sums.fill(0.0);
        for k in 0..chosen {
            let row = (o * chosen + k) * inner + i;
            // SAFETY: the index lies in its layout.
            let index = unsafe { *picked.get().add(row_offset(indices.layout(), 0, row)) };
            let to = (index.max(0) as usize).min(op.size - 1) * channels;
            let at = rows.offset(row);
            for (c, sum) in sums[to..to + channels].iter_mut().enumerate() {
                // SAFETY: the element lies in the layout.
                *sum += unsafe { (*rows.base.get().add(at + c * rows.step)).to_f32() };
            }
        }
        for (a, sums) in sums.chunks(channels).enumerate() {
            for (c, &sum) in sums.iter().enumerate() {
                // SAFETY: each task writes its own position.
                unsafe { base.get().add(((o * op.size + a) * inner + i) * channels + c).write(T::from_f32(sum)) };
            }
        }
    })
}
