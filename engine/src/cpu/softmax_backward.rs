//! Gradient of the softmax of rows: a sum, then the result.

use super::{
    Cpu, Shared,
    convert::{load_at, store},
    simd::{Kernel, Simd, math},
    strided::{Strided, TASK, vectors},
    with_float,
};
use crate::{Element, Result, Tensor, ops::softmax_backward::SoftmaxBackward};

pub fn run(op: &SoftmaxBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(y), Some(gradient)] = *inputs else { return Ok(()) };
    with_float!("softmax_backward", y.dtype(), T => typed::<T>(op.log, y, gradient, &outputs[0], cpu))
}

fn typed<T: Element>(log: bool, y: &Tensor, gradient: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let (y, gradient) = (Strided::<T>::new(y, cpu)?, Strided::<T>::new(gradient, cpu)?);
    let base = Shared(cpu.ptr::<T>(out)?);
    let together = (TASK / y.len).max(1);
    cpu.pool.for_each(y.rows.div_ceil(together), |task| {
        for row in task * together..((task + 1) * together).min(y.rows) {
            let at = |x: &Strided<T>| {
                // SAFETY: the row lies in the layout.
                (unsafe { x.base.get().add(x.offset(row)) }.cast_const(), x.step)
            };
            // SAFETY: each task writes its own rows.
            let dx = unsafe { base.get().add(row * y.len) };
            cpu.level.run(Row { log, y: at(&y), gradient: at(&gradient), dx, len: y.len });
        }
    });
    Ok(())
}

struct Row<T> {
    log: bool,
    /// Where the row begins, and the distance of its elements.
    y: (*const T, usize),
    gradient: (*const T, usize),
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
                    let g = load_at::<S, T>(gradient, j, lanes);
                    sum = if log { S::add(sum, g) } else { S::fma(g, load_at::<S, T>(y, j, lanes), sum) };
                },
            );
            let sum = S::splat(S::sum(sum));
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    let (g, y) = (load_at::<S, T>(gradient, j, lanes), load_at::<S, T>(y, j, lanes));
                    let x = if log { S::sub(g, S::mul(math::exp::<S>(y), sum)) } else { S::mul(y, S::sub(g, sum)) };
                    store::<S, T>(dx.add(j), x, lanes);
                },
            );
        }
    }
}
