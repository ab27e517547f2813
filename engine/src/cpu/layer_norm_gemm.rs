//! Layer normalisation within a matrix product: rows are normalised while they are gathered, so that what is normalised is never in memory.

use std::marker::PhantomData;

use super::{
    Cpu, Shared,
    convert::{load, store},
    gemm,
    layer_norm::{TOGETHER, normalised, statistics},
    product::{LDA, Rows, blocks},
    simd::{Kernel, Level, Simd},
    strided::{Strided, vectors},
    with_float,
};
use crate::{DType, Element, Result, Tensor, ops::layer_norm_gemm::LayerNormGemm};

pub fn run(op: &LayerNormGemm, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x), ..] = *inputs else { return Ok(()) };
    #[cfg(target_arch = "x86_64")]
    if super::panels::in_pairs(x.dtype(), cpu) {
        return typed::<half::bf16, half::bf16>(op, inputs, &outputs[0], cpu);
    }
    with_float!("layer_norm_gemm", x.dtype(), T => typed::<T, f32>(op, inputs, &outputs[0], cpu))
}

/// With gathered rows of `D`: f32, or bf16 in [pairs](super::pairs).
fn typed<T: Element, D: Element>(op: &LayerNormGemm, inputs: &[Option<&Tensor>], out: &Tensor, cpu: &Cpu) -> Result<()> {
    let (product, parameters) = LayerNormGemm::operands(inputs);
    let [Some(x), ..] = *product else { return Ok(()) };
    // Rows are read as vectors, three times.
    let side_by_side;
    let x = if x.layout().strides()[x.rank() - 1] == 1 {
        x
    } else {
        side_by_side = x.contiguous()?;
        &side_by_side
    };
    let [scale, shift] = parameters.map(|p| p.map(Tensor::contiguous).transpose());
    let (scale, shift) = (scale?, shift?);
    let start = |p: &Option<Tensor>| p.as_ref().map(|p| cpu.ptr::<T>(p).map(Shared)).transpose();
    let rows = Normalised::<T, D> {
        rows: Strided::new(x, cpu)?,
        eps: op.eps,
        scale: start(&scale)?,
        shift: start(&shift)?,
        gathered: PhantomData,
    };
    gemm::typed::<T, _>(&op.gemm(), product, out, &rows, cpu)
}

/// Rows whose elements lie side by side, normalised.
struct Normalised<T, D> {
    rows: Strided<T>,
    eps: f32,
    scale: Option<Shared<T>>,
    shift: Option<Shared<T>>,
    gathered: PhantomData<fn() -> D>,
}

impl<T: Element, D: Element> Rows for Normalised<T, D> {
    const PAIRS: bool = matches!(D::DTYPE, DType::BF16);

    fn enter<K: Kernel>(level: Level, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if Self::PAIRS {
            return level.run_widest(kernel);
        }
        level.run(kernel)
    }

    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, first: usize, count: usize, steps: usize, dst: *mut f32) {
        let together = count / TOGETHER * TOGETHER;
        // SAFETY: passed on from the caller.
        unsafe {
            for r in (0..together).step_by(TOGETHER) {
                self.several::<S, TOGETHER>(first, r, (count, steps), dst);
            }
            for r in together..count {
                self.several::<S, 1>(first, r, (count, steps), dst);
            }
        }
    }
}

impl<T: Element, D: Element> Normalised<T, D> {
    /// Rows `r..r + R` of the `count` from `first` on: statistics from a row that stays in L1, then results into all blocks.
    ///
    /// # Safety
    /// As [`Rows::gather`].
    #[inline(always)]
    unsafe fn several<S: Simd, const R: usize>(&self, first: usize, r: usize, (count, steps): (usize, usize), dst: *mut f32) {
        let (len, per_step) = (self.rows.len, if Self::PAIRS { 2 } else { 1 });
        // SAFETY: the rows lie in their layout; the rest is the caller's word.
        unsafe {
            let mut x = [self.rows.base.get().cast_const(); R];
            for (i, x) in x.iter_mut().enumerate() {
                *x = x.add(self.rows.offset(first + r + i));
            }
            let (mean, scale) = statistics::<S, T, R>(len, x, self.eps);
            for (k0, kc, dst) in blocks(steps, count, dst) {
                let (dst, low) = (dst.add(r * LDA).cast::<D>(), k0 * per_step);
                let elements = (kc * per_step).min(len - low);
                vectors::<S>(
                    elements,
                    #[inline(always)]
                    |j, lanes| {
                        let at = low + j;
                        let weight = match self.scale {
                            Some(weight) => load::<S, T>(weight.get().add(at), 1, lanes),
                            None => S::splat(1.0),
                        };
                        let bias = match self.shift {
                            Some(bias) => Some(load::<S, T>(bias.get().add(at), 1, lanes)),
                            None => None,
                        };
                        for i in 0..R {
                            let y = normalised::<S>(load::<S, T>(x[i].add(at), 1, lanes), mean[i], scale[i], weight, bias);
                            store::<S, D>(dst.add(i * LDA * per_step + j), y, lanes);
                        }
                    },
                );
                for i in 0..R {
                    dst.add(i * LDA * per_step + elements).write_bytes(0, kc * per_step - elements);
                }
            }
        }
    }
}
