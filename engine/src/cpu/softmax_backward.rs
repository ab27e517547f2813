//! Gradient of the softmax of rows: a sum, then the result.

use super::{
    Cpu, Shared,
    product::store,
    simd::{Kernel, Simd, math},
    strided::{Strided, TASK, load_f32, vectors},
};
use crate::{Element, Result, Tensor, ops::softmax_backward::SoftmaxBackward, with_element};

pub fn run(op: &SoftmaxBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(y), Some(gradient)] = *inputs else { return Ok(()) };
    with_element!(y.dtype(), T => typed::<T>(op.log, y, gradient, &outputs[0], cpu))
}

fn typed<T: Element>(log: bool, y: &Tensor, gradient: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let (y, gradient) = (Strided::<T>::new(y, cpu)?, Strided::<T>::new(gradient, cpu)?);
    let base = Shared(cpu.ptr::<T>(out)?);
    let together = (TASK / y.len).max(1);
    cpu.with_scratch(y.rows.div_ceil(together), 2 * y.len, |task, scratch| {
        let scratch = scratch.ptr().cast::<f32>();
        for row in task * together..((task + 1) * together).min(y.rows) {
            // SAFETY: the scratch holds two rows, and each task writes its own rows.
            cpu.level.run(unsafe {
                Row {
                    log,
                    y: y.row(row, 0, y.len, scratch),
                    gradient: gradient.row(row, 0, y.len, scratch.add(y.len)),
                    dx: base.get().add(row * y.len),
                    len: y.len,
                }
            });
        }
    })
}

struct Row<T> {
    log: bool,
    y: *const f32,
    gradient: *const f32,
    dx: *mut T,
    len: usize,
}

impl<T: Element> Kernel for Row<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Row { log, y, gradient, dx, len } = self;
        // SAFETY: the rows are valid for `len`.
        unsafe {
            let mut sum = S::splat(0.0);
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    let g = load_f32::<S>(gradient.add(j), lanes);
                    sum = if log { S::add(sum, g) } else { S::fma(g, load_f32::<S>(y.add(j), lanes), sum) };
                },
            );
            let sum = S::splat(S::sum(sum));
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    let (g, y) = (load_f32::<S>(gradient.add(j), lanes), load_f32::<S>(y.add(j), lanes));
                    let x = if log { S::sub(g, S::mul(math::exp::<S>(y), sum)) } else { S::mul(y, S::sub(g, sum)) };
                    store::<S, T>(dx.add(j), x, lanes);
                },
            );
        }
    }
}
