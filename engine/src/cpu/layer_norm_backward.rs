//! Gradient of layer normalisation: statistics, the two means and the result in passes over a row that stays in L1; scale and bias in blocks of
//! rows.

use super::{
    Cpu, Shared,
    columns::{ROWS, sum_blocks},
    convert::store,
    layer_norm::statistics,
    simd::{Kernel, Simd},
    strided::{Strided, load_f32, vectors},
    with_float,
};
use crate::{Element, Result, Tensor, ops::layer_norm_backward::LayerNormBackward};

pub fn run(op: &LayerNormBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("layer_norm_backward", outputs[0].dtype(), T => typed::<T>(op.eps, inputs, outputs, cpu))
}

fn typed<T: Element>(eps: f32, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x), weight, Some(gradient)] = *inputs else { return Ok(()) };
    let (x, gradient) = (Strided::<T>::new(x, cpu)?, Strided::<T>::new(gradient, cpu)?);
    let weight = weight.map(Tensor::to_f32_vec).transpose()?;
    let dx = Shared(cpu.ptr::<T>(&outputs[0])?);
    let len = x.len;
    let sums = sum_blocks(cpu, x.rows, 2 * len, 2 * len, |block, sums, scratch| {
        for row in block * ROWS..((block + 1) * ROWS).min(x.rows) {
            // SAFETY: the sums hold two rows; each block writes its own rows.
            let (dx, dbias) = unsafe { (dx.get().add(row * len), sums.add(len)) };
            let operands = [&x, &gradient];
            cpu.level.run(Task { eps, row, operands, scratch, weight: weight.as_deref(), dx, dweight: sums, dbias });
        }
    })?;
    write_parameters::<T>(&sums, len, &outputs[1..], cpu)
}

/// Rounds the sums of `dweight` and then `dbias` into their tensors.
pub(super) fn write_parameters<T: Element>(sums: &[f32], len: usize, outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    for (out, sums) in outputs.iter().zip(sums.chunks(len.max(1))) {
        let base = cpu.ptr::<T>(out)?;
        // SAFETY: the output has `len` elements.
        sums.iter().enumerate().for_each(|(c, &sum)| unsafe { base.add(c).write(T::from_f32(sum)) });
    }
    Ok(())
}

/// One row, with scratch for two.
struct Task<'a, T> {
    eps: f32,
    row: usize,
    /// `x` and the gradient.
    operands: [&'a Strided<T>; 2],
    scratch: *mut f32,
    weight: Option<&'a [f32]>,
    dx: *mut T,
    dweight: *mut f32,
    dbias: *mut f32,
}

impl<T: Element> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Task { eps, row, operands: [x, gradient], scratch, weight, dx, dweight, dbias } = self;
        let len = x.len;
        // SAFETY: the row exists, and the scratch holds two.
        let (x, gradient) = unsafe { (x.row::<S>(row, scratch), gradient.row::<S>(row, scratch.add(len))) };
        Row { eps, x, gradient, weight, dx, dweight, dbias, len }.run::<S>();
    }
}

struct Row<'a, T> {
    eps: f32,
    x: *const f32,
    gradient: *const f32,
    weight: Option<&'a [f32]>,
    dx: *mut T,
    dweight: *mut f32,
    dbias: *mut f32,
    len: usize,
}

impl<T: Element> Row<'_, T> {
    /// Mean, and one over the standard deviation, of `x`.
    ///
    /// # Safety
    /// The row is valid for `len`.
    #[inline(always)]
    unsafe fn statistics<S: Simd>(&self) -> (S::V, S::V) {
        // SAFETY: passed on from the caller.
        unsafe {
            let ([mean], [scale]) = statistics::<S, f32, 1>(self.len, [self.x], self.eps);
            (S::splat(mean), S::splat(scale))
        }
    }
}

impl<T: Element> Row<'_, T> {
    /// `x̂` from `j` on. (Functions, because closures in a kernel may become calls without the kernel's instructions.)
    ///
    /// # Safety
    /// The row is valid for `j + lanes`.
    #[inline(always)]
    unsafe fn hat<S: Simd>(&self, j: usize, lanes: usize, (mean, inverse): (S::V, S::V)) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { S::mul(S::sub(load_f32::<S>(self.x.add(j), lanes), mean), inverse) }
    }

    /// The gradient times the weight.
    ///
    /// # Safety
    /// As [`Row::hat`].
    #[inline(always)]
    unsafe fn scaled<S: Simd>(&self, j: usize, lanes: usize, gradient: S::V) -> S::V {
        match self.weight {
            // SAFETY: passed on from the caller.
            Some(weight) => unsafe { S::mul(gradient, load_f32::<S>(weight.as_ptr().add(j), lanes)) },
            None => gradient,
        }
    }

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: all rows are valid for `len`.
        unsafe {
            let statistics = self.statistics::<S>();
            let (mut sum_g, mut sum_gx) = (S::splat(0.0), S::splat(0.0));
            vectors::<S>(
                self.len,
                #[inline(always)]
                |j, lanes| {
                    let (x, gradient) = (self.hat::<S>(j, lanes, statistics), load_f32::<S>(self.gradient.add(j), lanes));
                    let g = self.scaled::<S>(j, lanes, gradient);
                    // Lanes beyond the row have a gradient of 0.
                    sum_g = S::add(sum_g, g);
                    sum_gx = S::fma(g, x, sum_gx);
                    let dweight = S::fma(gradient, x, load_f32::<S>(self.dweight.add(j), lanes));
                    store::<S, f32>(self.dweight.add(j), dweight, lanes);
                    let dbias = S::add(gradient, load_f32::<S>(self.dbias.add(j), lanes));
                    store::<S, f32>(self.dbias.add(j), dbias, lanes);
                },
            );
            let n = self.len as f32;
            let mean_g = S::splat(S::sum(sum_g) / n);
            let mean_gx = S::splat(S::sum(sum_gx) / n);
            vectors::<S>(
                self.len,
                #[inline(always)]
                |j, lanes| {
                    let g = self.scaled::<S>(j, lanes, load_f32::<S>(self.gradient.add(j), lanes));
                    let rest = S::sub(S::sub(g, mean_g), S::mul(self.hat::<S>(j, lanes, statistics), mean_gx));
                    store::<S, T>(self.dx.add(j), S::mul(rest, statistics.1), lanes);
                },
            );
        }
    }
}
