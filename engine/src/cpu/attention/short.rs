//! Attention of short sequences (a few time steps at each place of a clip), without panels: 9 keys would leave most of a panel of 32 empty.
//!
//! Scores lie as `[keys][queries]`, so that a softmax is the same few operations for all queries of a vector, without a sum across its lanes.
//! Products of queries and keys are vectors along the channels, summed across at the end, four at a time; what is weighted and added are the
//! rows of the values as they lie.

use std::f32::consts::LOG2_E;

use super::{Operands, Sequence, tiled::natural};
use crate::{
    DType, Element, Result,
    cpu::{
        Cpu,
        convert::{load, store},
        product::part,
        simd::{Kernel, Simd, math},
    },
};

/// The longest sequences that are better off here than in register tiles: at 32, where a panel is full, tiles of f32 are slower by a sixth,
/// because scores and packed keys make their way through memory; beyond, keys and values leave L1.
pub(in crate::cpu) const SHORT: usize = 40;

/// The same for bf16 where [pairs](crate::cpu::pairs) are multiplied, at twice the speed: a panel that is half empty is as good.
const SHORT_PAIRS: usize = 14;

/// Multiply-adds of a task, at least: some microseconds.
const TASK: usize = 1 << 18;

/// Whether sequences of such lengths are served here, `pairs` being the alternative or not.
pub(in crate::cpu) fn serves(queries: usize, keys: usize, pairs: bool) -> bool {
    let most = if pairs { SHORT_PAIRS } else { SHORT };
    (1..=most).contains(&queries) && (1..=most).contains(&keys)
}

/// How many sequences make a task, if one is `work` multiply-adds.
pub(in crate::cpu) fn chunk(sequences: usize, work: usize, threads: usize) -> usize {
    (TASK / work.max(1)).clamp(1, sequences.div_ceil(8 * threads).max(1))
}

pub(super) fn run<T: Element>(x: &Operands<T>, cpu: &Cpu) -> Result<()> {
    let (sequences, queries, keys) = (x.q.sequences(), x.q.tokens(), x.k.tokens());
    let [width, value_width] = [x.q.shape[4], x.v.shape[4]].map(padded);
    let parts = [queries * width.max(value_width), keys * width, keys * value_width, (keys + 2) * padded(queries)];
    let chunk = chunk(sequences, queries * keys * (width + value_width), cpu.pool.threads());
    cpu.with_scratch(sequences.div_ceil(chunk), parts.iter().sum(), |task, scratch| {
        for i in task * chunk..sequences.min((task + 1) * chunk) {
            cpu.level.run(Forward { x, i, parts, scratch: scratch.ptr().cast() });
        }
    })
}

/// A width rounded up to whole vectors of any level.
pub(in crate::cpu) fn padded(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// One sequence.
struct Forward<'a, T> {
    x: &'a Operands<T>,
    i: usize,
    /// Rooms for queries and then results, for keys, values, and scores.
    parts: [usize; 4],
    scratch: *mut f32,
}

impl<T: Element> Kernel for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Forward { x, i, parts, scratch } = self;
        // SAFETY: the scratch holds the parts, and each sequence has its own results.
        unsafe {
            for next in x.after(i) {
                next.prefetch::<S>((0, SHORT));
            }
            let q = Rows::new::<S, T>(&x.q.sequence(i), scratch);
            let k = Rows::new::<S, T>(&x.k.sequence(i), scratch.add(parts[0]));
            let v = Rows::new::<S, T>(&x.v.sequence(i), scratch.add(parts[0] + parts[1]));
            let scores = scratch.add(parts[0] + parts[1] + parts[2]);
            let stride = padded(q.len);
            dots::<S>(&q, &k, scores, stride);
            let [maxima, totals] = [0, 1].map(|row| scores.add((k.len + row) * stride));
            for lane in (0..q.len).step_by(S::LANES) {
                let (max, total) = softmax::<S>(scores.add(lane), k.len, stride, x.scale);
                S::store(maxima.add(lane), max);
                S::store(totals.add(lane), total);
            }
            combine::<S, T>(scores, [1, stride], &v, q.len, &x.out.sequence(i), 1.0, scratch);
            if let Some(lse) = &x.lse {
                let lse = lse.sequence(i);
                (0..q.len).for_each(|r| lse.base.get().add(r * lse.stride).write(natural(*maxima.add(r), *totals.add(r))));
            }
        }
    }
}

/// The softmax of the scores of a vector of queries, times `scale`, in place. A score that is NaN, or +∞, makes its query's NaN. Gives the
/// largest, in units of `ln 2`, and the total of the powers.
///
/// # Safety
/// `scores` is valid for `keys` rows of a vector.
#[inline(always)]
unsafe fn softmax<S: Simd>(scores: *mut f32, keys: usize, stride: usize, scale: f32) -> (S::V, S::V) {
    // SAFETY: passed on from the caller.
    unsafe {
        let scale = S::splat(scale * LOG2_E);
        let mut max = S::splat(f32::NEG_INFINITY);
        for j in 0..keys {
            max = S::max(S::mul(S::load(scores.add(j * stride)), scale), max);
        }
        let mut total = S::splat(0.0);
        for j in 0..keys {
            let at = scores.add(j * stride);
            let d = S::sub(S::mul(S::load(at), scale), max);
            let e = math::exp2::<S>(d);
            S::store(at, e);
            total = S::add(total, e);
        }
        let inverse = S::div(S::splat(1.0), total);
        for j in 0..keys {
            let at = scores.add(j * stride);
            S::store(at, S::mul(S::load(at), inverse));
        }
        (max, total)
    }
}

/// The tokens of a sequence as rows of f32, of whole vectors.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Rows {
    base: *const f32,
    pub len: usize,
    stride: usize,
    /// Channels, rounded up to a vector.
    width: usize,
}

impl Rows {
    /// As they lie, if they lie so; else converted into `scratch`, with zeros beyond the width.
    ///
    /// # Safety
    /// `scratch` is valid for all rows of the [padded] width.
    #[inline(always)]
    pub unsafe fn new<S: Simd, T: Element>(x: &Sequence<T>, scratch: *mut f32) -> Self {
        let width = x.width.next_multiple_of(S::LANES);
        if T::DTYPE == DType::F32 && x.step == 1 && width == x.width {
            return Rows { base: x.base.get().cast(), len: x.len, stride: x.stride, width };
        }
        for r in 0..x.len {
            for c in (0..x.width).step_by(S::LANES) {
                // SAFETY: tokens and channels lie in the layout; `load` reads only channels below the width and is 0 beyond.
                unsafe {
                    let src = x.base.get().add(r * x.stride + c * x.step);
                    S::store(scratch.add(r * width + c), load::<S, T>(src, x.step, S::LANES.min(x.width - c)));
                }
            }
        }
        Rows { base: scratch, len: x.len, stride: width, width }
    }

    /// # Safety
    /// The row exists.
    #[inline(always)]
    unsafe fn row(&self, r: usize) -> *const f32 {
        // SAFETY: the caller's word.
        unsafe { self.base.add(r * self.stride) }
    }
}

/// `out[j, i] = aᵢ · bⱼ`, in rows of `stride`. A function of its own for each level, shared by all element types: the blocks are most of the code.
///
/// # Safety
/// Both have the same width; `out` is valid for a row for each of `b`, and `stride` is the padded length of `a`: blocks of fewer than four write
/// as many numbers.
#[inline(always)]
pub(in crate::cpu) unsafe fn dots<S: Simd>(a: &Rows, b: &Rows, out: *mut f32, stride: usize) {
    // SAFETY: whoever has `S` runs on a machine with its instructions.
    unsafe { S::enter(Dots { a: *a, b: *b, out, stride }) }
}

/// The arguments of [`dots`], which vouches for them.
struct Dots {
    a: Rows,
    b: Rows,
    out: *mut f32,
    stride: usize,
}

impl Kernel for Dots {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Dots { a, b, out, stride } = self;
        // As many sums as registers hold.
        let most = if S::LANES == 16 { 4 } else { 2 };
        let (across, down) = (a.len.div_ceil(4), b.len.div_ceil(most));
        for j in 0..down {
            let (j0, j1) = part(b.len, down, j);
            for i in 0..across {
                let (i0, i1) = part(a.len, across, i);
                macro_rules! cases {
                    ($($n:literal $m:literal)*) => {
                        // SAFETY: passed on from the caller of `dots`.
                        unsafe {
                            match (i1 - i0, j1 - j0) {
                                $(($n, $m) if $m <= most => dot_block::<S, $n, $m>(&a, &b, (i0, j0), out, stride),)*
                                _ => debug_assert!(false, "a block is at most 4 by 4"),
                            }
                        }
                    };
                }
                cases!(1 1 1 2 1 3 1 4 2 1 2 2 2 3 2 4 3 1 3 2 3 3 3 4 4 1 4 2 4 3 4 4);
            }
        }
    }
}

/// # Safety
/// As [`dots`].
#[inline(always)]
unsafe fn dot_block<S: Simd, const N: usize, const M: usize>(
    a: &Rows,
    b: &Rows,
    (i, j): (usize, usize),
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let (a, b, width) = ((a.row(i), a.stride), (b.row(j), b.stride), a.width);
        let mut sums = [[S::splat(0.0); 4]; M];
        for c in (0..width).step_by(S::LANES) {
            let mut x = [S::splat(0.0); N];
            for (n, x) in x.iter_mut().enumerate() {
                *x = S::load(a.0.add(n * a.1 + c));
            }
            for (m, sums) in sums.iter_mut().enumerate() {
                let y = S::load(b.0.add(m * b.1 + c));
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum = S::fma(x, y, *sum);
                }
            }
        }
        for (m, sums) in sums.into_iter().enumerate() {
            let sums = S::sum_each(sums);
            out.add((j + m) * stride + i).copy_from_nonoverlapping(sums.as_ptr(), 4);
        }
    }
}

/// `out[i] = factor · Σⱼ w[i, j] · xⱼ` for `rows` rows, where `w[i, j]` lies at `i·along + j·step`. Results that are not f32 go through `room`.
///
/// # Safety
/// The weights and rows of the result exist; `room` is valid for as many [padded] rows, and no operand is in it.
#[inline(always)]
pub(in crate::cpu) unsafe fn combine<S: Simd, T: Element>(
    weights: *const f32,
    [along, step]: [usize; 2],
    x: &Rows,
    rows: usize,
    out: &Sequence<T>,
    factor: f32,
    room: *mut f32,
) {
    let floats = T::DTYPE == DType::F32;
    let (to, stride) = if floats { (out.base.get().cast(), out.stride) } else { (room, padded(out.width)) };
    // SAFETY: passed on from the caller; channels beyond the result's width are not stored.
    unsafe {
        S::enter(Combine { weights, along, step, x: *x, rows, out: to, stride, width: out.width, factor });
        if !floats {
            for r in 0..rows {
                for c in (0..out.width).step_by(S::LANES) {
                    let y = S::load(room.add(r * stride + c));
                    store::<S, T>(out.base.get().add(r * out.stride + c), y, S::LANES.min(out.width - c));
                }
            }
        }
    }
}

/// The arguments of [`combine`], which vouches for them: a function of its own for each level, as [`Dots`].
struct Combine {
    weights: *const f32,
    along: usize,
    step: usize,
    x: Rows,
    rows: usize,
    out: *mut f32,
    stride: usize,
    /// Channels of the result.
    width: usize,
    factor: f32,
}

impl Kernel for Combine {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // As many sums as registers hold.
        let most = if S::LANES == 16 { 6 } else { 5 };
        let vectors = if S::LANES == 16 { 4 } else { 2 };
        let blocks = self.rows.div_ceil(most);
        let mut c = 0;
        while c < self.x.width {
            let wide = c + vectors * S::LANES <= self.x.width;
            for block in 0..blocks {
                let (low, high) = part(self.rows, blocks, block);
                macro_rules! cases {
                    ($($n:literal)*) => {
                        // SAFETY: passed on from the caller of `combine`.
                        unsafe {
                            match high - low {
                                $($n if $n > most => debug_assert!(false, "a block has at most {most} rows"),
                                $n if !wide => self.block::<S, $n, 1>(low, c),
                                $n if S::LANES == 16 => self.block::<S, $n, 4>(low, c),
                                $n => self.block::<S, $n, 2>(low, c),)*
                                rows => debug_assert!(rows == 0, "a block has at most {most} rows"),
                            }
                        }
                    };
                }
                cases!(1 2 3 4 5 6);
            }
            c += if wide { vectors * S::LANES } else { S::LANES };
        }
    }
}

impl Combine {
    /// Rows from `low` on, channels from `c` on.
    ///
    /// # Safety
    /// As [`combine`], for `N` rows and `V` vectors of channels.
    #[inline(always)]
    unsafe fn block<S: Simd, const N: usize, const V: usize>(&self, low: usize, c: usize) {
        // SAFETY: passed on from the caller; channels beyond the result's width are not stored.
        unsafe {
            let weights = self.weights.add(low * self.along);
            let mut sums = [[S::splat(0.0); V]; N];
            for j in 0..self.x.len {
                let src = self.x.row(j).add(c);
                let mut x = [S::splat(0.0); V];
                for (v, x) in x.iter_mut().enumerate() {
                    *x = S::load(src.add(v * S::LANES));
                }
                for (n, sums) in sums.iter_mut().enumerate() {
                    let weight = S::splat(*weights.add(n * self.along + j * self.step));
                    for (sum, x) in sums.iter_mut().zip(x) {
                        *sum = S::fma(weight, x, *sum);
                    }
                }
            }
            let factor = S::splat(self.factor);
            for (n, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    let c = c + v * S::LANES;
                    let (at, y) = (self.out.add((low + n) * self.stride + c), S::mul(sum, factor));
                    let lanes = S::LANES.min(self.width - c);
                    if lanes == S::LANES { S::store(at, y) } else { S::store_first(at, y, lanes) }
                }
            }
        }
    }
}
