//! Attention of one query, or few, over many keys: keys and values are read once, as they lie.
//!
//! The keys are cut into chunks of [`CHUNK`], whatever the number of threads; each gives a maximum, a total and a weighted sum, which are
//! combined in order (UniFormerV2, equation 9: one query over all tokens of a clip).

use super::{Operands, Sequence, tiled::exponentials};
use crate::{
    Element, Result,
    cpu::{
        Cpu, Shared,
        product::{load, store},
        simd::{Kernel, Simd},
    },
};

/// Keys of a chunk.
const CHUNK: usize = 256;

pub(super) fn run<T: Element>(x: &Operands<T>, cpu: &Cpu) -> Result<()> {
    let (queries, keys, width) = (x.q.shape[x.q.axis], x.k.shape[x.k.axis], x.v.shape[4]);
    let rows = x.q.sequences() * queries;
    let chunks = keys.div_ceil(CHUNK);
    // Per row and chunk: maximum, total, and the weighted sum of the values, rounded up to whole vectors.
    let record = 2 + width.next_multiple_of(16);
    let records = cpu.memory.allocate((rows * chunks * record).max(1) * size_of::<f32>())?;
    let base = Shared(records.ptr().cast::<f32>());
    cpu.with_scratch(rows * chunks, CHUNK + x.q.shape[4].next_multiple_of(16), |task, scratch| {
        let (row, chunk) = (task / chunks, task % chunks);
        let (sequence, query) = (row / queries, row % queries);
        cpu.level.run(Chunk {
            q: x.q.sequence(sequence),
            k: x.k.sequence(sequence),
            v: x.v.sequence(sequence),
            query,
            keys: (chunk * CHUNK, ((chunk + 1) * CHUNK).min(keys)),
            scale: x.scale,
            scratch: scratch.ptr().cast(),
            // SAFETY: each task has its own record.
            record: unsafe { base.get().add(task * record) },
        });
    })?;
    cpu.pool.for_each(rows, |row| {
        let (sequence, query) = (row / queries, row % queries);
        cpu.level.run(Combine {
            // SAFETY: the records of this row.
            records: unsafe { base.get().add(row * chunks * record) },
            chunks,
            record,
            out: x.out.sequence(sequence),
            lse: x.lse.as_ref().map(|lse| lse.sequence(sequence)),
            query,
        });
    });
    Ok(())
}

struct Chunk<T> {
    q: Sequence<T>,
    k: Sequence<T>,
    v: Sequence<T>,
    query: usize,
    keys: (usize, usize),
    scale: f32,
    scratch: *mut f32,
    record: *mut f32,
}

impl<T: Element> Kernel for Chunk<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Chunk { q, k, v, .. } = &self;
        let count = self.keys.1 - self.keys.0;
        // SAFETY: rows and channels lie in their layouts; scratch and record have the sizes that `run` gave them.
        unsafe {
            let scores = self.scratch;
            let query = scores.add(CHUNK);
            for c in (0..q.width).step_by(S::LANES) {
                let lanes = S::LANES.min(q.width - c);
                let x = load::<S, T>(q.base.get().add(self.query * q.stride + c * q.step), q.step, lanes);
                S::store(query.add(c), S::mul(x, S::splat(self.scale)));
            }
            for j in 0..count {
                let row = k.base.get().add((self.keys.0 + j) * k.stride);
                let mut sum = S::splat(0.0);
                for c in (0..q.width).step_by(S::LANES) {
                    let x = load::<S, T>(row.add(c * k.step), k.step, S::LANES.min(q.width - c));
                    sum = S::fma(S::load(query.add(c)), x, sum);
                }
                scores.add(j).write(S::sum(sum));
            }
            let (mut max, mut total) = (f32::NEG_INFINITY, 0.0);
            exponentials::<S>(scores, count, &mut max, &mut total);
            self.record.write(max);
            self.record.add(1).write(total);
            let sums = self.record.add(2);
            for c in (0..v.width).step_by(S::LANES) {
                let lanes = S::LANES.min(v.width - c);
                let mut sum = S::splat(0.0);
                for j in 0..count {
                    let row = v.base.get().add((self.keys.0 + j) * v.stride);
                    sum = S::fma(S::splat(*scores.add(j)), load::<S, T>(row.add(c * v.step), v.step, lanes), sum);
                }
                S::store(sums.add(c), sum);
            }
        }
    }
}

struct Combine<T> {
    records: *const f32,
    chunks: usize,
    record: usize,
    out: Sequence<T>,
    lse: Option<Sequence<f32>>,
    query: usize,
}

impl<T: Element> Kernel for Combine<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: records have the sizes that `run` gave them; the query's row lies in the outputs.
        unsafe {
            let maximum = |i: usize| *self.records.add(i * self.record);
            let max = (0..self.chunks).map(maximum).fold(f32::NEG_INFINITY, |m, x| if x.is_nan() || x > m { x } else { m });
            let factor = |i: usize| if self.chunks == 1 { 1.0 } else { (maximum(i) - max).exp() };
            let total: f32 = (0..self.chunks).map(|i| factor(i) * *self.records.add(i * self.record + 1)).sum();
            let dst = self.out.base.get().add(self.query * self.out.stride);
            for c in (0..self.out.width).step_by(S::LANES) {
                let mut sum = S::splat(0.0);
                for i in 0..self.chunks {
                    sum = S::fma(S::splat(factor(i)), S::load(self.records.add(i * self.record + 2 + c)), sum);
                }
                // No keys: nothing to average.
                let y = if self.chunks == 0 { sum } else { S::div(sum, S::splat(total)) };
                store::<S, T>(dst.add(c), y, S::LANES.min(self.out.width - c));
            }
            if let Some(lse) = &self.lse {
                lse.base.get().add(self.query * lse.stride).write(max + total.ln());
            }
        }
    }
}
