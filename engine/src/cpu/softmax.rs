//! Softmax of rows, and its logarithm.

use super::{
    Cpu, Shared,
    convert::{load, store},
    simd::{Kernel, Simd, math},
    strided::{Strided, TASK, load_f32, vectors},
    with_float,
};
use crate::{Element, Result, Tensor, ops::softmax::Softmax};

pub fn run(op: &Softmax, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_float!("softmax", x.dtype(), T => typed::<T>(op.log, x, &outputs[0], cpu))
}

fn typed<T: Element>(log: bool, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let rows = Strided::<T>::new(x, cpu)?;
    let base = Shared(cpu.ptr::<T>(out)?);
    let together = (TASK / rows.len).max(1);
    cpu.with_scratch(rows.rows.div_ceil(together), rows.len + 16, |task, scratch| {
        let powers = scratch.ptr().cast::<f32>();
        for row in task * together..((task + 1) * together).min(rows.rows) {
            // SAFETY: each task reads and writes rows that there are.
            cpu.level.run(unsafe {
                let x = rows.base.get().add(rows.offset(row));
                Row { log, x, step: rows.step, powers, y: base.get().add(row * rows.len), len: rows.len }
            });
        }
    })
}

struct Row<T> {
    log: bool,
    x: *const T,
    step: usize,
    powers: *mut f32,
    y: *mut T,
    len: usize,
}

impl<T: Element> Kernel for Row<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // Without a choice in the loops where elements lie side by side.
        if self.step == 1 { self.at_step::<S>(1) } else { self.at_step::<S>(self.step) }
    }
}

impl<T: Element> Row<T> {
    #[inline(always)]
    fn at_step<S: Simd>(&self, step: usize) {
        let &Row { log, x, powers, y, len, .. } = self;
        // SAFETY: `x` and `y` are valid for `len`, `powers` for `len` and a vector.
        unsafe {
            let mut max = f32::NEG_INFINITY;
            let mut m = S::splat(max);
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    if lanes == S::LANES {
                        m = S::max(load::<S, T>(x.add(j * step), step, lanes), m);
                    } else {
                        (j..len).for_each(|j| max = max.max((*x.add(j * step)).to_f32()));
                    }
                },
            );
            let max = max.max(S::max_lane(m));
            let m = S::splat(max);
            let mut sum = S::splat(0.0);
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    let d = S::sub(load::<S, T>(x.add(j * step), step, lanes), m);
                    let e = math::exp_nonpositive::<S>(d);
                    S::store(powers.add(j), e);
                    sum = S::add(sum, load_f32::<S>(powers.add(j), lanes));
                },
            );
            let total = S::sum(sum);
            if log {
                let shift = S::splat(total.ln());
                vectors::<S>(
                    len,
                    #[inline(always)]
                    |j, lanes| {
                        let d = S::sub(load::<S, T>(x.add(j * step), step, lanes), m);
                        store::<S, T>(y.add(j), S::sub(d, shift), lanes);
                    },
                );
            } else {
                let inverse = S::splat(1.0 / total);
                vectors::<S>(
                    len,
                    #[inline(always)]
                    |j, lanes| {
                        store::<S, T>(y.add(j), S::mul(load_f32::<S>(powers.add(j), lanes), inverse), lanes);
                    },
                );
            }
        }
    }
}
