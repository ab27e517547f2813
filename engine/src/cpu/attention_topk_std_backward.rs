//! Gradient of temporal attention with topK_std pooling: a sequence is some 8 to 32 frames, so plain loops over the head dimension serve.

use super::{
    Cpu,
    attention::{Grid, Sequence},
    simd::{Kernel, Simd},
    strided::{Strided, row_offset},
    with_float,
};
use crate::{Element, Result, Tensor, ops::attention_topk_std_backward::AttentionTopkStdBackward};

pub fn run(op: &AttentionTopkStdBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("attention_topk_std_backward", outputs[0].dtype(), T => typed::<T>(op, inputs, outputs, cpu))
}

fn typed<T: Element>(op: &AttentionTopkStdBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(q), Some(k), Some(v), Some(kept), Some(gradient)] = *inputs else { return Ok(()) };
    let grid = |x: &Tensor| Grid::<T>::new(x, 1, cpu);
    let operands = [grid(q)?, grid(k)?, grid(v)?, grid(gradient)?];
    let results = [grid(&outputs[0])?, grid(&outputs[1])?, grid(&outputs[2])?];
    let indices = Strided::<i32>::new(kept, cpu)?;
    let (slots, frames) = (kept.shape()[1], q.shape()[1]);
    let (width, value_width) = (q.shape()[4], v.shape()[4]);
    let (locations, heads) = (q.shape()[2], q.shape()[3]);
    // A row of each softmax and its gradient, and the sums of dq, dk and dv.
    let floats = 4 * frames + frames * (2 * width + value_width);
    let sequences = results[0].sequences();
    cpu.with_scratch(sequences, floats, |i, scratch| {
        let frame = |slot: usize| {
            // Sequences count heads fastest, then locations, then the batch.
            let at = ((i / (heads * locations) * slots + slot) * locations + i / heads % locations) * heads + i % heads;
            // SAFETY: the index lies in the layout.
            let kept = unsafe { *indices.base.get().add(row_offset(kept.layout(), 0, at)) };
            kept.clamp(0, frames as i32 - 1) as usize
        };
        // SAFETY: one buffer per task, of `floats`.
        let scratch = unsafe { std::slice::from_raw_parts_mut(scratch.ptr().cast::<f32>(), floats) };
        cpu.level.run(Gradient {
            op,
            operands: operands.each_ref().map(|x| x.sequence(i)),
            results: results.each_ref().map(|x| x.sequence(i)),
            frame: &frame,
            scratch,
        });
    })
}

struct Gradient<'a, T> {
    op: &'a AttentionTopkStdBackward,
    /// `q, k, v, gradient`
    operands: [Sequence<T>; 4],
    /// `dq, dk, dv`
    results: [Sequence<T>; 3],
    frame: &'a dyn Fn(usize) -> usize,
    scratch: &'a mut [f32],
}

impl<T: Element> Kernel for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let Gradient { op, operands: [q, k, v, gradient], results, frame, scratch } = self;
        let frames = q.len;
        scratch.fill(0.0);
        let (rows, sums) = scratch.split_at_mut(4 * frames);
        let (dq, sums) = sums.split_at_mut(frames * q.width);
        let (dk, dv) = sums.split_at_mut(frames * q.width);
        let (first, rows) = rows.split_at_mut(frames);
        let (second, rows) = rows.split_at_mut(frames);
        let (slope, passed) = rows.split_at_mut(frames);
        // SAFETY: tokens and channels lie in their layouts.
        let at = |x: &Sequence<T>, token: usize, c: usize| unsafe { (*x.base.get().add(token * x.stride + c * x.step)).to_f32() };
        for slot in 0..gradient.len {
            let own = frame(slot);
            for (i, score) in first.iter_mut().enumerate() {
                *score = op.scale * (0..q.width).map(|c| at(&q, own, c) * at(&k, i, c)).sum::<f32>();
            }
            softmax(first);
            second.copy_from_slice(first);
            if op.renormalize {
                softmax(second);
            }
            for (i, slope) in slope.iter_mut().enumerate() {
                *slope = (0..v.width).map(|c| at(&gradient, slot, c) * at(&v, i, c)).sum();
                (0..v.width).for_each(|c| dv[i * v.width + c] += second[i] * at(&gradient, slot, c));
            }
            if op.renormalize {
                backward(second, slope, passed);
                slope.copy_from_slice(passed);
            }
            backward(first, slope, passed);
            for (i, &ds) in passed.iter().enumerate() {
                for c in 0..q.width {
                    dq[own * q.width + c] += op.scale * ds * at(&k, i, c);
                    dk[i * q.width + c] += op.scale * ds * at(&q, own, c);
                }
            }
        }
        for (out, sums) in results.iter().zip([dq, dk, dv]) {
            for (i, &sum) in sums.iter().enumerate() {
                // SAFETY: results are of the operands' shapes, and each task writes its own sequence.
                unsafe { out.base.get().add(i / out.width * out.stride + i % out.width * out.step).write(T::from_f32(sum)) };
            }
        }
    }
}

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|x| *x = (*x - max).exp());
    let total: f32 = row.iter().sum();
    row.iter_mut().for_each(|x| *x /= total);
}

/// Back through a softmax with result `y`.
#[inline(always)]
fn backward(y: &[f32], gradient: &[f32], out: &mut [f32]) {
    let dot: f32 = y.iter().zip(gradient).map(|(y, g)| y * g).sum();
    out.iter_mut().zip(y.iter().zip(gradient)).for_each(|(out, (y, g))| *out = y * (g - dot));
}
