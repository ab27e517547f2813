//! Attention of one query, or few, over many keys: keys and values are read once, as they lie.
//!
//! The keys are cut into chunks of [`CHUNK`], whatever the number of threads; each gives a maximum, a total and a weighted sum, which are
//! combined in order (UniFormerV2, equation 9: one query over all tokens of a clip). A task has a chunk of all heads, because the heads of a
//! token usually lie side by side: its keys, and then its values, are one stream through memory.

use std::f32::consts::LOG2_E;

use super::{
    Grid, Operands, Sequence,
    tiled::{exponentials, natural},
};
use crate::{
    Element, Result,
    cpu::{
        Cpu, Shared,
        convert::{load, store},
        simd::{Kernel, Simd},
    },
};

/// Keys of a chunk.
const CHUNK: usize = 64;

/// Keys that are scored together, and whose values are added together.
const TOGETHER: usize = 4;

/// How many keys ahead memory is asked for them: rows of a few KiB end before the processor sees a stream in them.
const AHEAD: usize = 8;

/// Bytes of keys and values from which on that pays (1.7 times as fast); what comes from L3 it slows down by a seventh.
const FAR: usize = 16 << 20;

/// Floats before the weighted sum of a record: the maximum, the total, and room to the next cache line.
const HEAD: usize = 16;

/// What a task finds in its scratch and leaves in its records.
struct Plan {
    queries: usize,
    heads: usize,
    keys: usize,
    chunks: usize,
    /// Channels of a query, rounded up to whole vectors.
    padded_width: usize,
    /// Floats per row (a head's query) and chunk: [`HEAD`], and the weighted sum of the values, rounded up to whole vectors.
    record: usize,
    records: Shared<f32>,
    /// Keys and values come from memory, not from a cache.
    far: bool,
}

impl Plan {
    /// The record of a query, in the order of the rows, and a chunk.
    ///
    /// # Safety
    /// They must exist.
    #[inline(always)]
    unsafe fn record(&self, row: usize, chunk: usize) -> *mut f32 {
        // SAFETY: passed on from the caller.
        unsafe { self.records.get().add((row * self.chunks + chunk) * self.record) }
    }
}

pub(super) fn run<T: Element>(x: &Operands<T>, cpu: &Cpu) -> Result<()> {
    let (queries, keys, heads) = (x.q.tokens(), x.k.tokens(), x.q.shape[3]);
    let rows = x.q.sequences() * queries;
    let chunks = keys.div_ceil(CHUNK);
    let record = HEAD + x.v.shape[4].next_multiple_of(16);
    let records = cpu.memory.allocate((rows * chunks * record).max(1) * size_of::<f32>())?;
    let plan = Plan {
        queries,
        heads,
        keys,
        chunks,
        padded_width: x.q.shape[4].next_multiple_of(16),
        record,
        records: Shared(records.ptr().cast()),
        far: x.q.sequences() * keys * (x.k.shape[4] + x.v.shape[4]) * size_of::<T>() >= FAR,
    };
    let scratch = heads * (CHUNK + plan.padded_width);
    cpu.with_scratch(x.q.sequences() / heads.max(1) * chunks, scratch, |task, scratch| {
        let (group, chunk) = (task / chunks, task % chunks);
        for query in 0..queries {
            cpu.level.run(Chunk { x, plan: &plan, group, query, chunk, scratch: scratch.ptr().cast() });
        }
    })?;
    cpu.pool.for_each(rows, |row| cpu.level.run(Combine { x, plan: &plan, row }));
    Ok(())
}

/// One query of each head of a group, and a chunk of its keys.
struct Chunk<'a, T> {
    x: &'a Operands<T>,
    plan: &'a Plan,
    /// Batch element and position beside the axis.
    group: usize,
    query: usize,
    chunk: usize,
    scratch: *mut f32,
}

impl<T: Element> Kernel for Chunk<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let plain = |grid: &Grid<T>| grid.strides[4] == 1 && grid.shape[4].is_multiple_of(S::LANES);
        if plain(&self.x.k) && plain(&self.x.v) { self.chunk::<S, true>() } else { self.chunk::<S, false>() }
    }
}

impl<T: Element> Chunk<'_, T> {
    /// With `PLAIN`, channels of keys and values are whole vectors, side by side: without a choice in the loops.
    #[inline(always)]
    fn chunk<S: Simd, const PLAIN: bool>(self) {
        let (p, x) = (self.plan, self.x);
        let (low, high) = (self.chunk * CHUNK, ((self.chunk + 1) * CHUNK).min(p.keys));
        let first = self.group * p.heads;
        // SAFETY: rows and channels lie in their layouts; scratch and records have the sizes that `run` gave them.
        unsafe {
            let (scores, queries) = (self.scratch, self.scratch.add(p.heads * CHUNK));
            for head in 0..p.heads {
                let q = x.q.sequence(first + head);
                for c in (0..q.width).step_by(S::LANES) {
                    let y = load::<S, T>(q.base.get().add(self.query * q.stride + c * q.step), q.step, S::LANES.min(q.width - c));
                    S::store(queries.add(head * p.padded_width + c), S::mul(y, S::splat(x.scale * LOG2_E)));
                }
            }
            self.in_order(
                &x.k,
                (low, high),
                #[inline(always)]
                |head, k, key, count| {
                    let at = scores.add(head * CHUNK + key - low);
                    let ahead = if p.far { AHEAD * k.stride } else { 0 };
                    score::<S, T, PLAIN>(queries.add(head * p.padded_width), &k, key, count, ahead, at);
                },
            );
            for head in 0..p.heads {
                let record = p.record((first + head) * p.queries + self.query, self.chunk);
                let (mut max, mut total) = (f32::NEG_INFINITY, 0.0);
                exponentials::<S>(scores.add(head * CHUNK), high - low, &mut max, &mut total);
                record.write(max);
                record.add(1).write(total);
                record.add(HEAD).write_bytes(0, p.record - HEAD);
            }
            self.in_order(
                &x.v,
                (low, high),
                #[inline(always)]
                |head, v, key, count| {
                    let sums = p.record((first + head) * p.queries + self.query, self.chunk).add(HEAD);
                    let weights = scores.add(head * CHUNK + key - low);
                    let ahead = if p.far { AHEAD * v.stride } else { 0 };
                    if count == TOGETHER {
                        accumulate::<S, T, TOGETHER, PLAIN>(weights, &v, key, ahead, sums);
                    } else {
                        (0..count).for_each(
                            #[inline(always)]
                            |i| accumulate::<S, T, 1, PLAIN>(weights.add(i), &v, key + i, ahead, sums),
                        );
                    }
                },
            );
        }
    }

    /// Calls `body(head, its sequence, key, count)` for blocks of up to [`TOGETHER`] keys of each head, in the order in which they lie in memory.
    #[inline(always)]
    fn in_order(&self, grid: &Grid<T>, (low, high): (usize, usize), body: impl Fn(usize, Sequence<T>, usize, usize)) {
        let head_stride = grid.strides[3];
        let start = grid.sequence(self.group * self.plan.heads);
        // SAFETY: the group has these heads.
        let sequence = |head: usize| Sequence { base: Shared(unsafe { start.base.get().add(head * head_stride) }), ..start };
        let blocks = (high - low).div_ceil(TOGETHER);
        let tokens_first = head_stride <= start.stride;
        let (outer, inner) = if tokens_first { (blocks, self.plan.heads) } else { (self.plan.heads, blocks) };
        for i in 0..outer {
            for j in 0..inner {
                let (head, block) = if tokens_first { (j, i) } else { (i, j) };
                let key = low + block * TOGETHER;
                body(head, sequence(head), key, TOGETHER.min(high - key));
            }
        }
    }
}

/// Lanes of a vector of which `left` channels are left.
#[inline(always)]
fn lanes<S: Simd, const PLAIN: bool>(left: usize) -> usize {
    if PLAIN { S::LANES } else { S::LANES.min(left) }
}

/// The scores of `count` keys from `key` on; asks for what lies `ahead`, if anything does.
///
/// # Safety
/// They exist, `count` is at least 1; `query` is valid for the width rounded up to a vector, `scores` for `count`.
#[inline(always)]
unsafe fn score<S: Simd, T: Element, const PLAIN: bool>(
    query: *const f32,
    k: &Sequence<T>,
    key: usize,
    count: usize,
    ahead: usize,
    scores: *mut f32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut rows = [k.base.get(); TOGETHER];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = row.add((key + i.min(count - 1)) * k.stride);
        }
        let step = if PLAIN { 1 } else { k.step };
        let mut sums = [S::splat(0.0); TOGETHER];
        for c in (0..k.width).step_by(S::LANES) {
            let (q, lanes) = (S::load(query.add(c)), lanes::<S, PLAIN>(k.width - c));
            for (sum, row) in sums.iter_mut().zip(rows) {
                if ahead != 0 {
                    S::prefetch(row.wrapping_add(ahead + c * step).cast());
                }
                *sum = S::fma(q, load::<S, T>(row.add(c * step), step, lanes), *sum);
            }
        }
        let sums = S::sum_each(sums);
        scores.copy_from_nonoverlapping(sums.as_ptr(), count);
    }
}

/// Adds the values of `N` keys from `key` on, times their weights; asks for what lies `ahead`, if anything does.
///
/// # Safety
/// They exist; `sums` is valid for the width rounded up to a vector.
#[inline(always)]
unsafe fn accumulate<S: Simd, T: Element, const N: usize, const PLAIN: bool>(
    weights: *const f32,
    v: &Sequence<T>,
    key: usize,
    ahead: usize,
    sums: *mut f32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let mut factors = [S::splat(0.0); N];
        for (i, factor) in factors.iter_mut().enumerate() {
            *factor = S::splat(*weights.add(i));
        }
        let step = if PLAIN { 1 } else { v.step };
        for c in (0..v.width).step_by(S::LANES) {
            let lanes = lanes::<S, PLAIN>(v.width - c);
            let mut sum = S::load(sums.add(c));
            for (i, factor) in factors.into_iter().enumerate() {
                let row = v.base.get().add((key + i) * v.stride + c * step);
                if ahead != 0 {
                    S::prefetch(row.wrapping_add(ahead).cast());
                }
                sum = S::fma(factor, load::<S, T>(row, step, lanes), sum);
            }
            S::store(sums.add(c), sum);
        }
    }
}

/// The result of a row, from its records.
struct Combine<'a, T> {
    x: &'a Operands<T>,
    plan: &'a Plan,
    row: usize,
}

impl<T: Element> Kernel for Combine<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let p = self.plan;
        let (sequence, query) = (self.row / p.queries, self.row % p.queries);
        let out = self.x.out.sequence(sequence);
        // SAFETY: records have the sizes that `run` gave them; the query's row lies in the outputs.
        unsafe {
            let mut max = f32::NEG_INFINITY;
            for chunk in 0..p.chunks {
                let m = *p.record(self.row, chunk);
                max = if m.is_nan() || m > max { m } else { max };
            }
            let mut total = 0.0;
            for chunk in 0..p.chunks {
                let record = p.record(self.row, chunk);
                let factor = if p.chunks == 1 { 1.0 } else { (*record - max).exp2() };
                total += factor * *record.add(1);
                record.write(factor);
            }
            let dst = out.base.get().add(query * out.stride);
            for c in (0..out.width).step_by(S::LANES) {
                let mut sum = S::splat(0.0);
                for chunk in 0..p.chunks {
                    let record = p.record(self.row, chunk);
                    sum = S::fma(S::splat(*record), S::load(record.add(HEAD + c)), sum);
                }
                // No keys: nothing to average.
                let y = if p.chunks == 0 { sum } else { S::div(sum, S::splat(total)) };
                store::<S, T>(dst.add(c), y, S::LANES.min(out.width - c));
            }
            if let Some(lse) = &self.x.lse {
                let lse = lse.sequence(sequence);
                lse.base.get().add(query * lse.stride).write(natural(max, total));
            }
        }
    }
}
