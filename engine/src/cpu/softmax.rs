//! Softmax of rows, and its logarithm: maximum, powers and their sum, result. Several rows go through each pass together, so that what one waits for, its
//! maximum and its sum, is hidden behind the others'.

use super::{
    Cpu, Shared,
    convert::{load, store},
    simd::{Kernel, Simd, brief, math},
    strided::{Strided, TASK, load_f32, vectors},
    with_float,
};
use crate::{DType, Element, Result, Tensor, ops::softmax::Softmax};

/// Rows that go together.
const TOGETHER: usize = 2;

/// The longest row of which [`TOGETHER`] and their powers fit in L1.
const SHORT: usize = 1280;

pub fn run(op: &Softmax, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_float!("softmax", x.dtype(), T => typed::<T>(op.log, x, &outputs[0], cpu))
}

fn typed<T: Element>(log: bool, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let rows = Strided::<T>::new(x, cpu)?;
    let y = Shared(cpu.ptr::<T>(out)?);
    let per_task = (TASK / rows.len).max(1);
    cpu.with_scratch(rows.rows.div_ceil(per_task), TOGETHER * (rows.len + 16), |task, scratch| {
        let range = (task * per_task, ((task + 1) * per_task).min(rows.rows));
        cpu.level.run(Task { log, x: &rows, y, rows: range, powers: scratch.ptr().cast() });
    })
}

/// A range of rows, with room for [`TOGETHER`] rows and a vector each.
struct Task<'a, T> {
    log: bool,
    x: &'a Strided<T>,
    y: Shared<T>,
    rows: (usize, usize),
    powers: *mut f32,
}

impl<T: Element> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // Without a choice in the loops where elements lie side by side.
        if self.x.step == 1 { self.rows::<S, true>() } else { self.rows::<S, false>() }
    }
}

impl<T: Element> Task<'_, T> {
    #[inline(always)]
    fn rows<S: Simd, const DENSE: bool>(&self) {
        let (mut row, end) = self.rows;
        // SAFETY: the rows lie in their layouts, each task has its own, and there is room for the powers of those that go together.
        unsafe {
            if self.x.len <= SHORT {
                while row + TOGETHER <= end {
                    self.several::<S, DENSE, TOGETHER>(row);
                    row += TOGETHER;
                }
            }
            while row < end {
                self.several::<S, DENSE, 1>(row);
                row += 1;
            }
        }
    }

    /// Rows `first..first + R`.
    ///
    /// # Safety
    /// They must exist, and `powers` hold a row and a vector for each.
    #[inline(always)]
    unsafe fn several<S: Simd, const DENSE: bool, const R: usize>(&self, first: usize) {
        let (len, step) = (self.x.len, if DENSE { 1 } else { self.x.step });
        let room = len + 16;
        // SAFETY: passed on from the caller.
        unsafe {
            let mut x = [self.x.base.get().cast_const(); R];
            for (i, x) in x.iter_mut().enumerate() {
                *x = x.add(self.x.offset(first + i));
            }
            let max = maxima::<S, T, R>(len, x, step);
            let mut sums = [S::splat(0.0); R];
            vectors::<S>(
                len,
                #[inline(always)]
                |j, lanes| {
                    for i in 0..R {
                        let d = S::sub(load::<S, T>(x[i].add(j * step), step, lanes), S::splat(max[i]));
                        let powers = self.powers.add(i * room + j);
                        S::store(powers, power::<S, T>(d, self.log));
                        sums[i] = S::add(sums[i], load_f32::<S>(powers, lanes));
                    }
                },
            );
            let total = sums.map(
                #[inline(always)]
                |sum| S::sum(sum),
            );
            let y = self.y.get().add(first * len);
            if self.log {
                let shift = total.map(f32::ln);
                vectors::<S>(
                    len,
                    #[inline(always)]
                    |j, lanes| {
                        for i in 0..R {
                            let d = S::sub(load::<S, T>(x[i].add(j * step), step, lanes), S::splat(max[i]));
                            store::<S, T>(y.add(i * len + j), S::sub(d, S::splat(shift[i])), lanes);
                        }
                    },
                );
            } else {
                let inverse = total.map(f32::recip);
                vectors::<S>(
                    len,
                    #[inline(always)]
                    |j, lanes| {
                        for (i, &inverse) in inverse.iter().enumerate() {
                            let power = load_f32::<S>(self.powers.add(i * room + j), lanes);
                            store::<S, T>(y.add(i * len + j), S::mul(power, S::splat(inverse)), lanes);
                        }
                    },
                );
            }
        }
    }
}

/// The largest element of each row; what is no number is passed over.
///
/// # Safety
/// The rows are valid for `len`.
#[inline(always)]
unsafe fn maxima<S: Simd, T: Element, const R: usize>(len: usize, x: [*const T; R], step: usize) -> [f32; R] {
    let mut max = [f32::NEG_INFINITY; R];
    // SAFETY: passed on from the caller.
    unsafe {
        if len < S::LANES {
            for (max, x) in max.iter_mut().zip(x) {
                (0..len).for_each(|j| *max = max.max((*x.add(j * step)).to_f32()));
            }
            return max;
        }
        let mut m = [S::splat(f32::NEG_INFINITY); R];
        let mut j = 0;
        while j < len {
            // The last vector may have elements of the one before it.
            let at = j.min(len - S::LANES);
            for (m, x) in m.iter_mut().zip(x) {
                *m = S::max(load::<S, T>(x.add(at * step), step, S::LANES), *m);
            }
            j += S::LANES;
        }
        for (max, m) in max.iter_mut().zip(m) {
            *max = S::max_lane(m);
        }
    }
    max
}

/// `eᵈ` of what is not above 0; to bf16's digits where it is a result of that type, but not within a logarithm, which may be near 0.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn power<S: Simd, T: Element>(d: S::V, log: bool) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { if T::DTYPE == DType::BF16 && !log { brief::exp_nonpositive::<S>(d) } else { math::exp_nonpositive::<S>(d) } }
}
