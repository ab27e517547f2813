//! Functions of the elements at one place of some operands: `unary`, `unary_backward` and `binary`.

use std::marker::PhantomData;

use super::{
    Cpu, Shared,
    convert::{WIDEST, load, store},
    simd::{Kernel, Simd},
    strided::{Strided, TASK},
};
use crate::{DType, Element, Result, Tensor};

/// A function of `N` numbers.
pub(super) trait Elementwise<const N: usize>: Copy + Sync {
    /// Must be `#[inline(always)]`. `BRIEF`: only bf16's digits of the result are kept, see [`super::simd::brief`].
    ///
    /// # Safety
    /// As [`Simd`].
    unsafe fn of<S: Simd, const BRIEF: bool>(self, x: [S::V; N]) -> S::V;
}

/// Fills `out` with `function` of the operands, broadcast to its shape: rows, or all elements as one, cut into tasks.
pub(super) fn run<T: Element, const N: usize>(
    function: impl Elementwise<N>,
    operands: [&Tensor; N],
    out: &Tensor,
    cpu: &Cpu,
) -> Result<()> {
    let flat = operands.iter().all(|x| x.shape() == out.shape() && x.layout().is_contiguous());
    let rows = |x: &Tensor| if flat { Strided::<T>::flat(x, cpu) } else { Strided::broadcast(x, out.shape(), cpu) };
    let operands = operands.into_iter().map(rows).collect::<Result<Vec<_>>>()?;
    let Some(&Strided { len: columns, rows, .. }) = operands.first() else { return Ok(()) };
    let base = Shared(cpu.ptr::<T>(out)?);
    let pieces = columns.div_ceil(TASK);
    let together = (TASK / columns).max(1);
    cpu.pool.for_each(rows.div_ceil(together) * pieces, |task| {
        let low = task % pieces * TASK;
        let len = TASK.min(columns - low);
        let first = task / pieces * together;
        for row in first..(first + together).min(rows) {
            // SAFETY: the pieces lie in their rows, and each task writes its own part of the output.
            unsafe {
                let at = |x: &Strided<T>| (x.base.get().add(x.offset(row) + low * x.step).cast_const(), x.step);
                let (x, y) = (std::array::from_fn(|i| at(&operands[i])), base.get().add(row * columns + low));
                cpu.level.run(Piece { function, x, y, len, digits: PhantomData::<T> });
            }
        }
    });
    Ok(())
}

/// A function of `len` numbers, of which a type's digits are kept, made by who vouches for the pointers; the result may be in an operand's place.
pub(super) struct Piece<T, D, F, const N: usize> {
    pub function: F,
    /// Where each operand begins, and the distance of its elements.
    pub x: [(*const T, usize); N],
    pub y: *mut T,
    pub len: usize,
    pub digits: PhantomData<D>,
}

impl<T: Element, D: Element, F: Elementwise<N>, const N: usize> Kernel for Piece<T, D, F, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // One loop for whole vectors, and, once more, for one that the rest is copied to: a second copy of all functions would be for nothing.
        let full = self.len / S::LANES * S::LANES;
        let rest = self.len - full;
        let (mut edges, mut edge) = ([[T::from_f32(0.0); WIDEST]; N], [T::from_f32(0.0); WIDEST]);
        let (mut x, mut y, mut len) = (self.x, self.y, full);
        loop {
            let mut j = 0;
            // SAFETY: whoever made it says that `x` and `y` are valid for `len`; so are the edges for a vector.
            unsafe {
                if T::DTYPE == DType::BF16 && x.iter().all(|&(_, step)| step == 1) {
                    while j + 2 * S::LANES <= len {
                        ask::<S, T, N>(x, y, j);
                        let (mut first, mut second) = ([S::splat(0.0); N], [S::splat(0.0); N]);
                        for (i, (from, _)) in x.into_iter().enumerate() {
                            [first[i], second[i]] = S::load_bf16_two(from.add(j).cast());
                        }
                        S::store_bf16_two(y.add(j).cast(), [self.of::<S>(first), self.of::<S>(second)]);
                        j += 2 * S::LANES;
                    }
                }
                while j < len {
                    ask::<S, T, N>(x, y, j);
                    let mut values = [S::splat(0.0); N];
                    for (value, (from, step)) in values.iter_mut().zip(x) {
                        *value = load::<S, T>(from.add(j * step), step, S::LANES);
                    }
                    store::<S, T>(y.add(j), self.of::<S>(values), S::LANES);
                    j += S::LANES;
                }
            }
            if rest == 0 || y == edge.as_mut_ptr() {
                break;
            }
            for (edge, (from, step)) in edges.iter_mut().zip(self.x) {
                // SAFETY: as above.
                (0..rest).for_each(|i| edge[i] = unsafe { *from.add((full + i) * step) });
            }
            (x, y, len) = (edges.each_ref().map(|edge| (edge.as_ptr(), 1)), edge.as_mut_ptr(), S::LANES);
        }
        // SAFETY: as above.
        unsafe { self.y.add(full).copy_from_nonoverlapping(edge.as_ptr(), rest) };
    }
}

/// Asks for the lines a page after those of the elements from `j` on: prefetchers stop where a page ends, and behind a long function there are few reads
/// under way. (Of 4.8 million elements in L3 functions take two thirds to four fifths of the time on one thread of an Intel server.)
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn ask<S: Simd, T, const N: usize>(x: [(*const T, usize); N], y: *mut T, j: usize) {
    const PAGE: usize = 4096;
    // SAFETY: passed on from the caller.
    unsafe {
        for (from, step) in x {
            S::prefetch(from.wrapping_add(j * step).cast::<u8>().wrapping_add(PAGE));
        }
        S::prefetch(y.wrapping_add(j).cast::<u8>().wrapping_add(PAGE));
    }
}

impl<T: Element, D: Element, F: Elementwise<N>, const N: usize> Piece<T, D, F, N> {
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    unsafe fn of<S: Simd>(&self, x: [S::V; N]) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { if D::DTYPE == DType::BF16 { self.function.of::<S, true>(x) } else { self.function.of::<S, false>(x) } }
    }
}
