//! Temporal attention with topK_std pooling. Sequences are short (8 to 32 frames), so a sequence's scores are a small square in L1.

use std::f32::consts::LOG2_E;

use super::{
    Cpu,
    attention::{
        Grid, Sequence, exponentials,
        short::{Rows, chunk, combine, dots, padded},
    },
    simd::{Kernel, Simd},
    with_float,
};
use crate::{Element, Result, Tensor, ops::attention_topk_std::AttentionTopkStd};

pub fn run(op: &AttentionTopkStd, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("attention_topk_std", outputs[0].dtype(), T => typed::<T>(op, inputs, outputs, cpu))
}

fn typed<T: Element>(op: &AttentionTopkStd, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let ([Some(q), Some(k), Some(v)], [out, kept, std]) = (inputs, outputs) else { return Ok(()) };
    let (q, k, v) = (Grid::<T>::new(q, 1, cpu)?, Grid::<T>::new(k, 1, cpu)?, Grid::<T>::new(v, 1, cpu)?);
    let out = Grid::<T>::new(out, 1, cpu)?;
    let (kept, std) = (Grid::<i32>::new(kept, 1, cpu)?, Grid::<f32>::new(std, 1, cpu)?);
    let frames = q.shape[1];
    let [width, value_width] = [q.shape[4], v.shape[4]].map(padded);
    let parts = [frames * width.max(value_width), frames * width, frames * value_width, frames * padded(frames)];
    let sequences = q.sequences();
    let chunk = chunk(sequences, frames * frames * (width + value_width), cpu.pool.threads());
    cpu.with_scratch(sequences.div_ceil(chunk), parts.iter().sum(), |task, scratch| {
        for i in task * chunk..sequences.min((task + 1) * chunk) {
            cpu.level.run(Pool {
                op,
                q: q.sequence(i),
                k: k.sequence(i),
                v: v.sequence(i),
                out: out.sequence(i),
                kept: kept.sequence(i),
                std: std.sequence(i),
                parts,
                scratch: scratch.ptr().cast(),
            });
        }
    })
}

struct Pool<'a, T> {
    op: &'a AttentionTopkStd,
    q: Sequence<T>,
    k: Sequence<T>,
    v: Sequence<T>,
    out: Sequence<T>,
    kept: Sequence<i32>,
    std: Sequence<f32>,
    /// Rooms for queries and then results, for keys, values, and rows of probabilities, in whole vectors.
    parts: [usize; 4],
    scratch: *mut f32,
}

impl<T: Element> Kernel for Pool<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let frames = self.q.len;
        let stride = padded(frames);
        let mut deviations = Vec::with_capacity(frames);
        // SAFETY: the scratch holds the parts, rows and channels lie in their layouts, and each sequence has its own outputs.
        unsafe {
            let q = Rows::new::<S, T>(&self.q, self.scratch);
            let k = Rows::new::<S, T>(&self.k, self.scratch.add(self.parts[0]));
            let v = Rows::new::<S, T>(&self.v, self.scratch.add(self.parts[0] + self.parts[1]));
            let rows = self.scratch.add(self.parts[0] + self.parts[1] + self.parts[2]);
            dots::<S>(&k, &q, rows, stride);
            for i in 0..frames {
                let row = rows.add(i * stride);
                normalise::<S>(row, frames, self.op.scale);
                let deviation = unbiased_std(std::slice::from_raw_parts(row, frames));
                self.std.base.get().add(i * self.std.stride).write(deviation as f32);
                deviations.push(deviation);
            }
            for (slot, frame) in largest(&deviations, self.op.keep).into_iter().enumerate() {
                // Frames come in increasing order, so a row moves to one that is not wanted any more.
                let row = rows.add(slot * stride);
                row.copy_from(rows.add(frame * stride), frames);
                if self.op.renormalize {
                    normalise::<S>(row, frames, 1.0);
                }
                self.kept.base.get().add(slot * self.kept.stride).write(frame as i32);
            }
            combine::<S, T>(rows, [stride, 1], &v, self.op.keep.min(frames), &self.out, 1.0, self.scratch);
        }
    }
}

/// Softmax of a row times `scale`, in place.
///
/// # Safety
/// `row` is valid for `len` rounded up to a vector.
#[inline(always)]
unsafe fn normalise<S: Simd>(row: *mut f32, len: usize, scale: f32) {
    let (mut max, mut total) = (f32::NEG_INFINITY, 0.0);
    // SAFETY: passed on from the caller.
    unsafe {
        for j in (0..len).step_by(S::LANES) {
            S::store(row.add(j), S::mul(S::load(row.add(j)), S::splat(scale * LOG2_E)));
        }
        exponentials::<S>(row, len, &mut max, &mut total);
        (0..len).for_each(|j| *row.add(j) /= total);
    }
}

fn unbiased_std(row: &[f32]) -> f64 {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    (row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

/// The indices of the `keep` largest, in increasing order; of equals the earlier.
fn largest(values: &[f64], keep: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
    order.truncate(keep);
    order.sort_unstable();
    order
}
