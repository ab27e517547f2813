//! Sums of resampling, a vector at a time: rows blended into one, columns of a row gathered, and both transposed.

use super::{
    convert::{load, store},
    simd::{Kernel, Level, Simd},
    strided::{Strided, load_f32, vectors},
};
use crate::{Element, ops::taps::Taps};

/// The sum of `weight` times the pixels `first..first + width` of an operand `[…, C]` for each `(first, weight)`.
///
/// # Safety
/// The pixels exist, and `to` is valid for `width·C`.
pub(super) unsafe fn blend<T: Element>(level: Level, taps: &[(usize, f32)], rows: &Strided<T>, width: usize, to: *mut f32) {
    level.run(Blend { taps, rows, width, to });
}

/// Adds `weight` times `len` numbers to `to`.
///
/// # Safety
/// Both are valid for `len`.
pub(super) unsafe fn add(level: Level, weight: f32, from: *const f32, len: usize, to: *mut f32) {
    level.run(Add { weight, from, len, to });
}

/// `to[j] = Σ weight·from[i]` for the pixels of `C` channels of a row.
///
/// # Safety
/// `from` has the columns that `taps` name, `to` one pixel for each of `taps`.
pub(super) unsafe fn gather<T: Element>(level: Level, taps: &Taps, channels: usize, from: *const f32, to: *mut T) {
    level.run(Gather { taps, channels, from, to });
}

/// The transpose: adds `weight·row[j]` to `to[i]`, for the pixels of an operand from `first` on.
///
/// # Safety
/// The operand has a pixel for each of `taps`, and `to` the columns that they name.
pub(super) unsafe fn spread<T: Element>(level: Level, taps: &Taps, rows: &Strided<T>, first: usize, to: *mut f32) {
    level.run(Spread { taps, rows, first, to });
}

struct Blend<'a, T> {
    taps: &'a [(usize, f32)],
    rows: &'a Strided<T>,
    width: usize,
    to: *mut f32,
}

impl<T: Element> Kernel for Blend<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Blend { taps, rows, width, to } = self;
        // Pixels side by side are one long row.
        let (count, len) = if rows.dense() { (1, width * rows.len) } else { (width, rows.len) };
        for i in 0..count {
            vectors::<S>(
                len,
                #[inline(always)]
                // SAFETY: the word of the caller of `blend`.
                |j, lanes| unsafe {
                    let mut sum = S::splat(0.0);
                    for &(first, weight) in taps {
                        let from = rows.base.get().add(rows.offset(first + i) + j * rows.step);
                        sum = S::fma(S::splat(weight), load::<S, T>(from, rows.step, lanes), sum);
                    }
                    store::<S, f32>(to.add(i * len + j), sum, lanes);
                },
            );
        }
    }
}

struct Add {
    weight: f32,
    from: *const f32,
    len: usize,
    to: *mut f32,
}

impl Kernel for Add {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        vectors::<S>(
            self.len,
            #[inline(always)]
            // SAFETY: the word of the caller of `add`.
            |j, lanes| unsafe {
                let x = load_f32::<S>(self.from.add(j), lanes);
                let sum = S::fma(S::splat(self.weight), x, load_f32::<S>(self.to.add(j), lanes));
                store::<S, f32>(self.to.add(j), sum, lanes);
            },
        );
    }
}

struct Gather<'a, T> {
    taps: &'a Taps,
    channels: usize,
    from: *const f32,
    to: *mut T,
}

impl<T: Element> Kernel for Gather<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let channels = self.channels;
        for (j, taps) in self.taps.iter().enumerate() {
            vectors::<S>(
                channels,
                #[inline(always)]
                // SAFETY: the word of the caller of `gather`.
                |c, lanes| unsafe {
                    let mut sum = S::splat(0.0);
                    for &(column, weight) in taps {
                        let x = load_f32::<S>(self.from.add(column * channels + c), lanes);
                        sum = S::fma(S::splat(weight), x, sum);
                    }
                    store::<S, T>(self.to.add(j * channels + c), sum, lanes);
                },
            );
        }
    }
}

struct Spread<'a, T> {
    taps: &'a Taps,
    rows: &'a Strided<T>,
    first: usize,
    to: *mut f32,
}

impl<T: Element> Kernel for Spread<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Spread { taps, rows, first, to } = self;
        for (j, taps) in taps.iter().enumerate() {
            let at = rows.offset(first + j);
            vectors::<S>(
                rows.len,
                #[inline(always)]
                // SAFETY: the word of the caller of `spread`.
                |c, lanes| unsafe {
                    let x = load::<S, T>(rows.base.get().add(at + c * rows.step), rows.step, lanes);
                    for &(column, weight) in taps {
                        let to = to.add(column * rows.len + c);
                        store::<S, f32>(to, S::fma(S::splat(weight), x, load_f32::<S>(to, lanes)), lanes);
                    }
                },
            );
        }
    }
}
