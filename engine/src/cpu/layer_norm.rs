//! Layer normalisation of rows: sum, variance about the mean, result; rows stay in L1 for the three passes, and several go through them
//! together, so that the latencies of one row's sums are hidden behind the others'.

use super::{
    Cpu, Shared,
    convert::{load, store},
    simd::{Kernel, Simd},
    strided::{Strided, TASK, load_f32, vectors},
    with_float,
};
use crate::{DType, Element, Result, Tensor, ops::layer_norm::LayerNorm};

/// Rows that are normalised together.
pub(super) const TOGETHER: usize = 4;

/// The longest row of which [`TOGETHER`] and their results fit in L1.
const SHORT: usize = 1280;

pub fn run(op: &LayerNorm, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("layer_norm", outputs[0].dtype(), T => typed::<T>(op.eps, inputs, outputs, cpu))
}

fn typed<T: Element>(eps: f32, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let Some(x) = inputs[0] else { return Ok(()) };
    let operand = |i: usize| inputs.get(i).copied().flatten();
    let rows = Strided::<T>::new(x, cpu)?;
    let residual = operand(3).map(|r| Strided::<T>::new(r, cpu)).transpose()?;
    let parameter = |i: usize| operand(i).map(|p| p.cast(DType::F32)?.contiguous()).transpose();
    let (weight, bias) = (parameter(1)?, parameter(2)?);
    let start = |p: &Option<Tensor>| p.as_ref().map(|p| cpu.ptr::<f32>(p).map(Shared)).transpose();
    let plan = Plan {
        eps,
        len: rows.len,
        weight: start(&weight)?,
        bias: start(&bias)?,
        y: Shared(cpu.ptr::<T>(&outputs[0])?),
        sum: outputs.get(1).map(|sum| cpu.ptr::<T>(sum).map(Shared)).transpose()?,
        rows,
        residual,
    };
    let (len, count) = (plan.len, plan.rows.rows);
    let per_task = (TASK / len).max(1);
    cpu.with_scratch(count.div_ceil(per_task), TOGETHER * 2 * (len + 16), |task, scratch| {
        let rows = (task * per_task, ((task + 1) * per_task).min(count));
        cpu.level.run(Task { plan: &plan, rows, scratch: Shared(scratch.ptr().cast()) });
    })
}

struct Plan<T> {
    eps: f32,
    len: usize,
    rows: Strided<T>,
    residual: Option<Strided<T>>,
    weight: Option<Shared<f32>>,
    bias: Option<Shared<f32>>,
    y: Shared<T>,
    sum: Option<Shared<T>>,
}

/// A range of rows, with scratch for two rows and a vector each for [`TOGETHER`].
struct Task<'a, T> {
    plan: &'a Plan<T>,
    rows: (usize, usize),
    scratch: Shared<f32>,
}

impl<T: Element> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let p = self.plan;
        let (mut row, end) = self.rows;
        // SAFETY: the rows lie in their layouts, each task has its own, and `scratch` holds two for each that go together.
        unsafe {
            if p.len <= SHORT {
                while row + TOGETHER <= end {
                    self.normalise::<S, TOGETHER>(row);
                    row += TOGETHER;
                }
            }
            while row < end {
                self.normalise::<S, 1>(row);
                row += 1;
            }
        }
    }
}

impl<T: Element> Task<'_, T> {
    /// Rows `first..first + R`.
    ///
    /// # Safety
    /// They must exist, and `scratch` hold two rows and a vector each for each of them.
    #[inline(always)]
    unsafe fn normalise<S: Simd, const R: usize>(&self, first: usize) {
        let p = self.plan;
        let len = p.len;
        let scratch = self.scratch.get();
        let row = |i: usize| (first + i) * len;
        // SAFETY: passed on from the caller.
        unsafe {
            let mut x: [*const f32; R] = [std::ptr::null(); R];
            for (i, x) in x.iter_mut().enumerate() {
                let scratch = scratch.add(i * 2 * (len + 16));
                *x = p.rows.row::<S>(first + i, scratch);
                if let (Some(residual), Some(sum)) = (&p.residual, p.sum) {
                    let other = residual.row::<S>(first + i, scratch.add(len + 16));
                    let sum = sum.get().add(row(i));
                    // The second result serves as the row, unless it is rounded.
                    let exact = if T::DTYPE == DType::F32 { sum.cast() } else { scratch };
                    add::<S, T>(len, *x, other, exact, sum);
                    *x = exact;
                }
            }
            let (mean, scale) = statistics::<S, f32, R>(len, x, p.eps);
            // The rows after these, and their results, are asked for beside the last pass; all at once it cost more than it gained.
            let mut next = [p.rows.base.get().cast_const(); R];
            for (i, next) in next.iter_mut().enumerate() {
                *next = next.wrapping_add(p.rows.offset((first + R + i).min(p.rows.rows - 1)));
            }
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    let weight = p.weight.map_or(
                        S::splat(1.0),
                        #[inline(always)]
                        |w| load_f32::<S>(w.get().add(j), lanes),
                    );
                    let bias = p.bias.map(
                        #[inline(always)]
                        |b| load_f32::<S>(b.get().add(j), lanes),
                    );
                    for i in 0..R {
                        S::prefetch(next[i].wrapping_add(j).cast());
                        S::prefetch(p.y.get().wrapping_add(row(i + R) + j).cast());
                        let y = normalised::<S>(load_f32::<S>(x[i].add(j), lanes), mean[i], scale[i], weight, bias);
                        store::<S, T>(p.y.get().add(row(i) + j), y, lanes);
                    }
                },
            );
        }
    }
}

/// `x + residual` to `exact`, and rounded to `sum`, which may be the same.
///
/// # Safety
/// All are valid for `len`.
#[inline(always)]
unsafe fn add<S: Simd, T: Element>(len: usize, x: *const f32, residual: *const f32, exact: *mut f32, sum: *mut T) {
    vectors::<S>(
        len,
        #[inline(always)]
        |j, lanes| {
            // SAFETY: passed on from the caller.
            unsafe {
                let s = S::add(load_f32::<S>(x.add(j), lanes), load_f32::<S>(residual.add(j), lanes));
                store::<S, f32>(exact.add(j), s, lanes);
                if T::DTYPE != DType::F32 {
                    store::<S, T>(sum.add(j), s, lanes);
                }
            }
        },
    );
}

/// The mean of each row, and `1 / √(variance + eps)`.
///
/// # Safety
/// The rows are valid for `len`.
#[inline(always)]
pub(super) unsafe fn statistics<S: Simd, T: Element, const R: usize>(
    len: usize,
    x: [*const T; R],
    eps: f32,
) -> ([f32; R], [f32; R]) {
    // SAFETY: passed on from the caller.
    unsafe {
        let mean = sums::<S, T, R>(len, x).map(
            #[inline(always)]
            |total| total / len as f32,
        );
        let scale = squares::<S, T, R>(len, x, mean).map(
            #[inline(always)]
            |square| 1.0 / (square / len as f32 + eps).sqrt(),
        );
        (mean, scale)
    }
}

/// `(x − mean) · scale · weight + bias`
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn normalised<S: Simd>(x: S::V, mean: f32, scale: f32, weight: S::V, bias: Option<S::V>) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe {
        let y = S::mul(S::mul(S::sub(x, S::splat(mean)), S::splat(scale)), weight);
        match bias {
            Some(bias) => S::add(y, bias),
            None => y,
        }
    }
}

/// The sum of each row: two chains of vectors, then their lanes.
///
/// # Safety
/// The rows are valid for `len`.
#[inline(always)]
unsafe fn sums<S: Simd, T: Element, const R: usize>(len: usize, x: [*const T; R]) -> [f32; R] {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut chains = [[S::splat(0.0); 2]; R];
        let pairs = len / (2 * S::LANES) * 2 * S::LANES;
        for j in (0..pairs).step_by(2 * S::LANES) {
            for (chain, x) in chains.iter_mut().zip(x) {
                let [a, b] = [load::<S, T>(x.add(j), 1, S::LANES), load::<S, T>(x.add(j + S::LANES), 1, S::LANES)];
                *chain = [S::add(chain[0], a), S::add(chain[1], b)];
            }
        }
        vectors::<S>(
            len - pairs,
            #[inline(always)]
            |j, lanes| {
                for (chain, x) in chains.iter_mut().zip(x) {
                    chain[0] = S::add(chain[0], load::<S, T>(x.add(pairs + j), 1, lanes));
                }
            },
        );
        chains.map(
            #[inline(always)]
            |[a, b]| S::sum(S::add(a, b)),
        )
    }
}

/// The sum of the squared distances to `mean`, in the same order.
///
/// # Safety
/// As [`sums`].
#[inline(always)]
unsafe fn squares<S: Simd, T: Element, const R: usize>(len: usize, x: [*const T; R], mean: [f32; R]) -> [f32; R] {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut chains = [[S::splat(0.0); 2]; R];
        let full = len / S::LANES * S::LANES;
        let pairs = len / (2 * S::LANES) * 2 * S::LANES;
        for j in (0..pairs).step_by(2 * S::LANES) {
            for ((chain, x), mean) in chains.iter_mut().zip(x).zip(mean) {
                let a = S::sub(load::<S, T>(x.add(j), 1, S::LANES), S::splat(mean));
                let b = S::sub(load::<S, T>(x.add(j + S::LANES), 1, S::LANES), S::splat(mean));
                *chain = [S::fma(a, a, chain[0]), S::fma(b, b, chain[1])];
            }
        }
        let mut totals = [0.0; R];
        for (((total, chain), x), mean) in totals.iter_mut().zip(chains).zip(x).zip(mean) {
            let mut first = chain[0];
            if pairs < full {
                let a = S::sub(load::<S, T>(x.add(pairs), 1, S::LANES), S::splat(mean));
                first = S::fma(a, a, first);
            }
            // Lanes beyond the row would count (0 − mean)².
            let tail: f32 = (full..len)
                .map(
                    #[inline(always)]
                    |j| ((*x.add(j)).to_f32() - mean).powi(2),
                )
                .sum();
            *total = S::sum(S::add(first, chain[1])) + tail;
        }
        totals
    }
}
