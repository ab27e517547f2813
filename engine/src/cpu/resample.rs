//! Sums of resampling, a vector at a time: planes and rows blended into one row, columns of a row gathered, and both transposed.
//!
//! Several output rows go through each step together: columns are read at any place of what was blended, which a core cannot hand on from a store that is
//! under way, and waits.

use super::{
    Cpu, Shared,
    convert::{WIDEST, load, store},
    simd::{Kernel, Level, Simd},
    strided::{Strided, TASK, load_f32, vectors},
};
use crate::{Element, Result, ops::taps::Taps};

/// Numbers that are blended before their columns are gathered, half of an L1 with what is gathered.
const TOGETHER: usize = 2048;

/// Separable resampling of `x`, rows of pixels of `[B, T, H, W, C]`, into a contiguous `[B, t, h, w, C]`: the planes and rows of an output row are
/// blended first, all columns at once, then the columns.
pub(super) struct Resample<'a, T> {
    pub x: &'a Strided<T>,
    /// `[B, T, H, W]`
    pub size: [usize; 4],
    /// The taps of each output plane, row and column.
    pub along: [&'a Taps; 3],
    /// Made by who vouches that it has room.
    pub out: Shared<T>,
}

impl<T: Element> Resample<'_, T> {
    pub fn run(&self, cpu: &Cpu) -> Result<()> {
        let ([batch, _, _, width], channels) = (self.size, self.x.len);
        let [t, h, w] = self.along.map(Vec::len);
        let (rows, longest) = (batch * t * h, width.max(w) * channels);
        // Short rows in numbers: those of kernels have a dozen elements.
        let per_task = (TASK / longest.max(1)).min(rows / (4 * cpu.pool.threads())).max(1);
        let together = (TOGETHER / longest.max(1)).clamp(1, per_task);
        // Vectors may reach beyond what is blended and gathered.
        let room = together * longest + WIDEST;
        cpu.with_scratch(rows.div_ceil(per_task), 2 * room, |task, scratch| {
            let last = ((task + 1) * per_task).min(rows);
            let blended = scratch.ptr().cast::<f32>();
            for first in (task * per_task..last).step_by(together) {
                // SAFETY: the scratch holds both.
                let gathered = unsafe { blended.add(room) };
                cpu.level.run(Rows { op: self, first, last: (first + together).min(last), blended, gathered });
            }
        })
    }
}

/// Output rows `first..last` of all.
struct Rows<'a, T> {
    op: &'a Resample<'a, T>,
    first: usize,
    last: usize,
    /// The rows, `[W, C]` each.
    blended: *mut f32,
    /// The output's rows where pixels are shorter than vectors.
    gathered: *mut f32,
}

impl<T: Element> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let [along_t, along_h, along_w] = self.op.along;
        let [_, depth, height, width] = self.op.size;
        let mut taps = Vec::new();
        for (n, row) in (self.first..self.last).enumerate() {
            let (i, j) = (row / along_h.len(), row % along_h.len());
            let (b, i) = (i / along_t.len(), i % along_t.len());
            taps.clear();
            for &(plane, along_t) in &along_t[i] {
                let first = |row: usize| ((b * depth + plane) * height + row) * width;
                taps.extend(along_h[j].iter().map(|&(row, along_h)| (first(row), along_t * along_h)));
            }
            // SAFETY: the taps are rows of the operand, and there is room for all rows, and for the rest of a vector behind the last.
            unsafe {
                let to = self.blended.add(n * width * self.op.x.len);
                // Without a choice in the loop where elements lie side by side.
                if self.op.x.dense() { self.blend::<S, true>(&taps, to) } else { self.blend::<S, false>(&taps, to) }
            }
        }
        // SAFETY: the output's rows are of this task alone, and those between have room behind them.
        unsafe {
            let to = self.op.out.get().add(self.first * along_w.len() * self.op.x.len);
            if self.op.x.len < S::LANES { self.gather_narrow::<S>(to) } else { self.gather::<S>(to) }
        }
    }
}

impl<T: Element> Rows<'_, T> {
    /// The sum of `weight` times the row from pixel `first` on, for each `(first, weight)`.
    ///
    /// # Safety
    /// The pixels exist; `to` is valid for the row and the rest of a vector.
    #[inline(always)]
    unsafe fn blend<S: Simd, const DENSE: bool>(&self, taps: &[(usize, f32)], to: *mut f32) {
        let (x, width) = (self.op.x, self.op.size[3]);
        // Pixels side by side are one long row.
        let (count, len, step) = if DENSE { (1, width * x.len, 1) } else { (width, x.len, x.step) };
        for pixel in 0..count {
            vectors::<S>(
                len,
                #[inline(always)]
                // SAFETY: the caller's word.
                |c, lanes| unsafe {
                    let mut sum = S::splat(0.0);
                    for &(first, weight) in taps {
                        let offset = if DENSE { first * x.len } else { x.offset(first + pixel) };
                        let from = x.base.get().add(offset + c * step);
                        sum = S::fma(S::splat(weight), load::<S, T>(from, step, lanes), sum);
                    }
                    S::store(to.add(pixel * len + c), sum);
                },
            );
        }
    }

    /// The sum of `taps` of the columns of blended row `n`, from channel `c` on.
    ///
    /// # Safety
    /// The row has the columns, and room behind it for the rest of a vector.
    #[inline(always)]
    unsafe fn column<S: Simd>(&self, n: usize, taps: &[(usize, f32)], c: usize) -> S::V {
        // SAFETY: the caller's word.
        unsafe {
            let mut sum = S::splat(0.0);
            for &(column, weight) in taps {
                let from = self.blended.add((n * self.op.size[3] + column) * self.op.x.len + c);
                sum = S::fma(S::splat(weight), S::load(from), sum);
            }
            sum
        }
    }

    /// The columns of the output rows.
    ///
    /// # Safety
    /// As [`Self::column`]; `to` is valid for the output rows.
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, mut to: *mut T) {
        let channels = self.op.x.len;
        for n in 0..self.last - self.first {
            for taps in self.op.along[2] {
                vectors::<S>(
                    channels,
                    #[inline(always)]
                    // SAFETY: the caller's word.
                    |c, lanes| unsafe { store::<S, T>(to.add(c), self.column::<S>(n, taps, c), lanes) },
                );
                to = to.wrapping_add(channels);
            }
        }
    }

    /// [`Self::gather`] of pixels shorter than a vector: each is stored as a whole one, before the next, which begins in it.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn gather_narrow<S: Simd>(&self, to: *mut T) {
        let (channels, rows) = (self.op.x.len, self.last - self.first);
        let mut next = self.gathered;
        for n in 0..rows {
            for taps in self.op.along[2] {
                // SAFETY: the caller's word.
                unsafe { S::store(next, self.column::<S>(n, taps, 0)) };
                next = next.wrapping_add(channels);
            }
        }
        vectors::<S>(
            rows * self.op.along[2].len() * channels,
            #[inline(always)]
            // SAFETY: as above.
            |c, lanes| unsafe { store::<S, T>(to.add(c), S::load(self.gathered.add(c)), lanes) },
        );
    }
}

/// Adds `weight` times `len` numbers to `to`.
///
/// # Safety
/// Both are valid for `len`.
pub(super) unsafe fn add(level: Level, weight: f32, from: *const f32, len: usize, to: *mut f32) {
    level.run(Add { weight, from, len, to });
}

/// The transpose of gathering columns: adds `weight·row[j]` to `to[i]`, for the pixels of an operand from `first` on.
///
/// # Safety
/// The operand has a pixel for each of `taps`, and `to` the columns that they name.
pub(super) unsafe fn spread<T: Element>(level: Level, taps: &Taps, rows: &Strided<T>, first: usize, to: *mut f32) {
    level.run(Spread { taps, rows, first, to });
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
