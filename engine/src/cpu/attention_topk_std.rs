//! Temporal attention with topK_std pooling. Sequences are short (8 to 32 frames), so a sequence's scores are a small square in L1.

use super::{
    Cpu,
    attention::{Grid, Sequence, exponentials},
    convert::{load, store},
    simd::{Kernel, Simd},
    with_float,
};
use crate::{Element, Result, Tensor, ops::attention_topk_std::AttentionTopkStd};

pub fn run(op: &AttentionTopkStd, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("attention_topk_std", outputs[0].dtype(), T => typed::<T>(op, inputs, outputs, cpu))
}

fn typed<T: Element>(op: &AttentionTopkStd, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let ([Some(q), Some(k), Some(v)], [out, kept, std]) = (inputs, outputs) else { return Ok(()) };
    let scalar = |x: &Tensor| x.reshape(&[x.shape(), &[1][..]].concat());
    let (q, k, v) = (Grid::<T>::new(q, 1, cpu)?, Grid::<T>::new(k, 1, cpu)?, Grid::<T>::new(v, 1, cpu)?);
    let out = Grid::<T>::new(out, 1, cpu)?;
    let (kept, std) = (Grid::<i32>::new(&scalar(kept)?, 1, cpu)?, Grid::<f32>::new(&scalar(std)?, 1, cpu)?);
    let frames = q.shape[1];
    // Rows of probabilities, rounded up to whole vectors, and their deviations.
    let stride = frames.next_multiple_of(16);
    cpu.with_scratch(q.sequences(), frames * stride, |i, scratch| {
        cpu.level.run(Pool {
            op,
            q: q.sequence(i),
            k: k.sequence(i),
            v: v.sequence(i),
            out: out.sequence(i),
            kept: kept.sequence(i),
            std: std.sequence(i),
            rows: scratch.ptr().cast(),
            stride,
        });
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
    /// `[T][stride]`
    rows: *mut f32,
    stride: usize,
}

impl<T: Element> Kernel for Pool<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let frames = self.q.len;
        let mut deviations = Vec::with_capacity(frames);
        // SAFETY: rows and channels lie in their layouts, the scratch holds `T · stride`, and each sequence has its own outputs.
        unsafe {
            for i in 0..frames {
                let row = self.rows.add(i * self.stride);
                self.probabilities::<S>(i, row);
                let deviation = unbiased_std(std::slice::from_raw_parts(row, frames));
                self.std.base.get().add(i * self.std.stride).write(deviation as f32);
                deviations.push(deviation);
            }
            for (slot, frame) in largest(&deviations, self.op.keep).into_iter().enumerate() {
                let row = self.rows.add(frame * self.stride);
                if self.op.renormalize {
                    normalise::<S>(row, frames);
                }
                self.kept.base.get().add(slot * self.kept.stride).write(frame as i32);
                for c in (0..self.v.width).step_by(S::LANES) {
                    let lanes = S::LANES.min(self.v.width - c);
                    let mut sum = S::splat(0.0);
                    for j in 0..frames {
                        let x = load::<S, T>(self.v.base.get().add(j * self.v.stride + c * self.v.step), self.v.step, lanes);
                        sum = S::fma(S::splat(*row.add(j)), x, sum);
                    }
                    store::<S, T>(self.out.base.get().add(slot * self.out.stride + c), sum, lanes);
                }
            }
        }
    }
}

impl<T: Element> Pool<'_, T> {
    /// Row `i` of the softmax of the scaled scores.
    ///
    /// # Safety
    /// `row` is valid for the frames, rounded up to a vector.
    #[inline(always)]
    unsafe fn probabilities<S: Simd>(&self, i: usize, row: *mut f32) {
        let (q, k) = (&self.q, &self.k);
        // SAFETY: rows and channels lie in their layouts.
        unsafe {
            for j in 0..k.len {
                let mut sum = S::splat(0.0);
                for c in (0..q.width).step_by(S::LANES) {
                    let lanes = S::LANES.min(q.width - c);
                    let a = load::<S, T>(q.base.get().add(i * q.stride + c * q.step), q.step, lanes);
                    let b = load::<S, T>(k.base.get().add(j * k.stride + c * k.step), k.step, lanes);
                    sum = S::fma(a, b, sum);
                }
                row.add(j).write(self.op.scale * S::sum(sum));
            }
            normalise::<S>(row, k.len);
        }
    }
}

/// Softmax in place.
///
/// # Safety
/// `row` is valid for `len` rounded up to a vector.
#[inline(always)]
unsafe fn normalise<S: Simd>(row: *mut f32, len: usize) {
    let (mut max, mut total) = (f32::NEG_INFINITY, 0.0);
    // SAFETY: passed on from the caller.
    unsafe {
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
