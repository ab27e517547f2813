//! A function of each element.

use super::{
    Cpu, Shared,
    product::store,
    simd::{Kernel, Simd, math},
    strided::{Strided, TASK, load_f32, vectors},
};
use crate::{Element, Function, Result, Tensor, ops::unary::Unary, with_element};

pub fn run(op: &Unary, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_element!(x.dtype(), T => typed::<T>(op.function, x, &outputs[0], cpu))
}

fn typed<T: Element>(function: Function, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let rows = if x.layout().is_contiguous() { Strided::<T>::flat(x, cpu)? } else { Strided::new(x, cpu)? };
    let base = Shared(cpu.ptr::<T>(out)?);
    let pieces = rows.len.div_ceil(TASK);
    let together = (TASK / rows.len).max(1);
    cpu.with_scratch(rows.rows.div_ceil(together) * pieces, TASK, |task, scratch| {
        let low = task % pieces * TASK;
        let len = TASK.min(rows.len - low);
        let first = task / pieces * together;
        for row in first..(first + together).min(rows.rows) {
            // SAFETY: the piece lies in the row, and each task writes its own part of the output.
            cpu.level.run(unsafe {
                Apply { function, x: rows.row(row, low, len, scratch.ptr().cast()), y: base.get().add(row * rows.len + low), len }
            });
        }
    })
}

struct Apply<T> {
    function: Function,
    x: *const f32,
    y: *mut T,
    len: usize,
}

impl<T: Element> Kernel for Apply<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: `x` and `y` are valid for `len`.
        vectors::<S>(
            self.len,
            #[inline(always)]
            |j, lanes| unsafe {
                let y = math::apply::<S>(self.function, load_f32::<S>(self.x.add(j), lanes));
                store::<S, T>(self.y.add(j), y, lanes);
            },
        );
    }
}
