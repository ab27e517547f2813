//! What a [product](super::product) does with its sums: `out[i, j] = residual[i, j] + f(alpha · sums[i, j] + bias[j])`.
//!
//! A function of its own for each element type and level, called for the sums of a tile's rows and a group of panels while they are in L1: inlined into every
//! product it would be compiled for every source of rows as well.

use std::marker::PhantomData;

use super::{
    Shared,
    convert::{load, store},
    elementwise::Piece,
    simd::{Kernel, Simd},
};
use crate::{Element, Function};

/// A view of rows whose element `(i, j)` of batch `b` lies at `offset(b·M + i) + j·step`.
pub(super) struct Residual<'a, T> {
    pub base: Shared<T>,
    pub offset: &'a (dyn Fn(usize) -> usize + Sync),
    pub step: usize,
}

/// See the [module](self).
pub(super) struct Epilogue<'a, T> {
    pub alpha: f32,
    pub function: Option<Function>,
    pub bias: Option<Shared<T>>,
    pub residual: Option<Residual<'a, T>>,
    /// `[batch·m, stride]`, of which columns from 0 on are written.
    pub out: Shared<T>,
    pub stride: usize,
}

/// The epilogue of `count` rows from `first` on, columns `low..high`, whose sums lie in rows of `distance`.
pub(super) struct Finish<'a, T> {
    pub epilogue: &'a Epilogue<'a, T>,
    pub first: usize,
    pub count: usize,
    pub columns: (usize, usize),
    pub sums: *mut f32,
    pub distance: usize,
}

impl<T: Element> Kernel for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for r in 0..self.count {
            // SAFETY: whoever makes one says that operands and output have the rows and columns, and that the sums are there.
            unsafe { self.row::<S>(self.first + r, self.sums.add(r * self.distance)) };
        }
    }
}

impl<T: Element> Finish<'_, T> {
    /// # Safety
    /// The row is one of the output's; `sums` is valid for the columns rounded up to a vector.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, row: usize, sums: *mut f32) {
        let (e, (low, high)) = (self.epilogue, self.columns);
        // SAFETY: passed on from the caller; partial vectors touch only columns below `high`.
        unsafe {
            let out = e.out.get().add(row * e.stride);
            let residual = e.residual.as_ref().map(|r| (r.base.get().add((r.offset)(row)), r.step));
            if let Some(function) = e.function {
                let mut j = low;
                while j < high {
                    let at = sums.add(j - low);
                    S::store(at, self.affine::<S>(at, j));
                    j += S::LANES;
                }
                let (x, len) = ([(sums.cast_const(), 1)], high - low);
                S::enter(Piece { function, x, y: sums, len, digits: PhantomData::<T> });
            }
            let mut j = low;
            while j < high {
                let (at, lanes) = (sums.add(j - low), S::LANES.min(high - j));
                let mut y = if e.function.is_some() { S::load(at) } else { self.affine::<S>(at, j) };
                if let Some((residual, step)) = residual {
                    y = S::add(y, load::<S, T>(residual.add(j * step), step, lanes));
                }
                store::<S, T>(out.add(j), y, lanes);
                j += lanes;
            }
        }
    }

    /// `alpha · sum + bias[j]`.
    ///
    /// # Safety
    /// As [`Self::row`], `j` being below its end.
    #[inline(always)]
    unsafe fn affine<S: Simd>(&self, sum: *const f32, j: usize) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe {
            let y = S::mul(S::load(sum), S::splat(self.epilogue.alpha));
            let Some(bias) = self.epilogue.bias else { return y };
            S::add(y, load::<S, T>(bias.get().add(j), 1, S::LANES.min(self.columns.1 - j)))
        }
    }
}
