//! Layer normalisation of rows: sum, variance about the mean, result; a row stays in L1 for the three passes.

use super::{
    Cpu, Shared,
    product::store,
    simd::{Kernel, Simd},
    strided::{Strided, TASK, load_f32, vectors},
};
use crate::{Element, Result, Tensor, ops::layer_norm::LayerNorm, with_element};

pub fn run(op: &LayerNorm, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_element!(outputs[0].dtype(), T => typed::<T>(op.eps, inputs, outputs, cpu))
}

fn typed<T: Element>(eps: f32, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let Some(x) = inputs[0] else { return Ok(()) };
    let operand = |i: usize| inputs.get(i).copied().flatten();
    let rows = Strided::<T>::new(x, cpu)?;
    let residual = operand(3).map(|r| Strided::<T>::new(r, cpu)).transpose()?;
    let parameter = |i: usize| operand(i).map(|p| p.to_f32_vec()).transpose();
    let (weight, bias) = (parameter(1)?, parameter(2)?);
    let y = Shared(cpu.ptr::<T>(&outputs[0])?);
    let sum = outputs.get(1).map(|sum| cpu.ptr::<T>(sum).map(Shared)).transpose()?;
    let len = rows.len;
    let together = (TASK / len / 4).max(1);
    cpu.with_scratch(rows.rows.div_ceil(together), 2 * len + 32, |task, scratch| {
        let scratch = scratch.ptr().cast::<f32>();
        for row in task * together..((task + 1) * together).min(rows.rows) {
            // SAFETY: the scratch holds two rows and a vector each, and each task writes its own rows.
            unsafe {
                let other = scratch.add(len + 16);
                cpu.level.run(Row {
                    eps,
                    x: rows.row(row, 0, len, scratch),
                    residual: residual.as_ref().map(|r| r.row(row, 0, len, other)),
                    scratch,
                    weight: weight.as_deref(),
                    bias: bias.as_deref(),
                    y: y.get().add(row * len),
                    sum: sum.map(|sum| sum.get().add(row * len)),
                    len,
                });
            }
        }
    })
}

struct Row<'a, T> {
    eps: f32,
    x: *const f32,
    residual: Option<*const f32>,
    /// May be where `x` is.
    scratch: *mut f32,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    y: *mut T,
    sum: Option<*mut T>,
    len: usize,
}

impl<T: Element> Kernel for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Row { len, scratch, .. } = self;
        let mut x = self.x;
        // SAFETY: all rows are valid for `len`.
        unsafe {
            if let (Some(residual), Some(sum)) = (self.residual, self.sum) {
                vectors::<S>(
                    len,
                    #[inline(always)]
                    |j, lanes| {
                        let s = S::add(load_f32::<S>(x.add(j), lanes), load_f32::<S>(residual.add(j), lanes));
                        store::<S, f32>(scratch.add(j), s, lanes);
                        store::<S, T>(sum.add(j), s, lanes);
                    },
                );
                x = scratch;
            }
            let mut total = [S::splat(0.0); 4];
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    let lane = j / S::LANES % 4;
                    total[lane] = S::add(total[lane], load_f32::<S>(x.add(j), lanes));
                },
            );
            let total = S::add(S::add(total[0], total[1]), S::add(total[2], total[3]));
            let mean = S::splat(S::sum(total) / len as f32);
            let mut squares = [S::splat(0.0); 4];
            let mut tail = 0.0;
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    if lanes == S::LANES {
                        let d = S::sub(S::load(x.add(j)), mean);
                        let lane = j / S::LANES % 4;
                        squares[lane] = S::fma(d, d, squares[lane]);
                    } else {
                        let mean = S::max_lane(mean);
                        (j..len).for_each(|j| tail += (*x.add(j) - mean).powi(2));
                    }
                },
            );
            let squares = S::add(S::add(squares[0], squares[1]), S::add(squares[2], squares[3]));
            let variance = (S::sum(squares) + tail) / len as f32;
            let scale = S::splat(1.0 / (variance + self.eps).sqrt());
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    let mut y = S::mul(S::sub(load_f32::<S>(x.add(j), lanes), mean), scale);
                    if let Some(weight) = self.weight {
                        y = S::mul(y, load_f32::<S>(weight.as_ptr().add(j), lanes));
                    }
                    if let Some(bias) = self.bias {
                        y = S::add(y, load_f32::<S>(bias.as_ptr().add(j), lanes));
                    }
                    store::<S, T>(self.y.add(j), y, lanes);
                },
            );
        }
    }
}
