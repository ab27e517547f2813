//! Arithmetic of two operands, each broadcast by strides of 0.

use super::{
    Cpu, Shared,
    product::store,
    simd::{Kernel, Simd},
    strided::{Strided, TASK, load_f32, vectors},
};
use crate::{
    Element, Result, Tensor,
    ops::binary::{Binary, Operator},
    with_element,
};

pub fn run(op: &Binary, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(a), Some(b)] = *inputs else { return Ok(()) };
    with_element!(a.dtype(), T => typed::<T>(op.operator, a, b, &outputs[0], cpu))
}

fn typed<T: Element>(operator: Operator, a: &Tensor, b: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let same = a.shape() == out.shape() && b.shape() == out.shape();
    let flat = same && a.layout().is_contiguous() && b.layout().is_contiguous();
    let rows = |x: &Tensor| if flat { Strided::<T>::flat(x, cpu) } else { Strided::broadcast(x, out.shape(), cpu) };
    let (a, b) = (rows(a)?, rows(b)?);
    let base = Shared(cpu.ptr::<T>(out)?);
    let pieces = a.len.div_ceil(TASK);
    let together = (TASK / a.len).max(1);
    cpu.with_scratch(a.rows.div_ceil(together) * pieces, 2 * TASK, |task, scratch| {
        let low = task % pieces * TASK;
        let len = TASK.min(a.len - low);
        let first = task / pieces * together;
        for row in first..(first + together).min(a.rows) {
            let scratch = scratch.ptr().cast::<f32>();
            // SAFETY: the pieces lie in their rows, and each task writes its own part of the output.
            cpu.level.run(unsafe {
                Apply {
                    operator,
                    a: a.row(row, low, len, scratch),
                    b: b.row(row, low, len, scratch.add(TASK)),
                    y: base.get().add(row * a.len + low),
                    len,
                }
            });
        }
    })
}

struct Apply<T> {
    operator: Operator,
    a: *const f32,
    b: *const f32,
    y: *mut T,
    len: usize,
}

impl<T: Element> Kernel for Apply<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: `a`, `b` and `y` are valid for `len`.
        vectors::<S>(
            self.len,
            #[inline(always)]
            |j, lanes| unsafe {
                let (a, b) = (load_f32::<S>(self.a.add(j), lanes), load_f32::<S>(self.b.add(j), lanes));
                let y = match self.operator {
                    Operator::Add => S::add(a, b),
                    Operator::Sub => S::sub(a, b),
                    Operator::Mul => S::mul(a, b),
                    Operator::Div => S::div(a, b),
                    // The vector maximum gives `b` if either is NaN.
                    Operator::Max => S::select_nan(a, a, S::max(a, b)),
                    Operator::Min => S::select_nan(a, a, S::min(a, b)),
                };
                store::<S, T>(self.y.add(j), y, lanes);
            },
        );
    }
}
