//! Trilinear resampling: the planes and rows of an output row are blended first, all columns at once, then the columns.

use super::{Cpu, Shared, strided::Strided};
use crate::{
    Element, Result, Tensor,
    ops::{interpolate::Interpolate, taps::linear},
    with_element,
};

pub fn run(op: &Interpolate, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_element!(x.dtype(), T => typed::<T>(op, x, &outputs[0], cpu))
}

fn typed<T: Element>(op: &Interpolate, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let s = x.shape();
    let [depth, height, width, channels] = [s[1], s[2], s[3], s[4]];
    let [t, h, w] = op.size;
    let [along_t, along_h, along_w] = [(depth, t), (height, h), (width, w)].map(|(n, m)| linear(n, m, op.align_corners));
    let rows = Strided::<T>::new(x, cpu)?;
    let base = Shared(cpu.ptr::<T>(out)?);
    cpu.with_scratch(s[0] * t * h, width * channels, |task, scratch| {
        let (b, i, j) = (task / (t * h), task / h % t, task % h);
        // SAFETY: the scratch holds a row, and belongs to this task.
        let blended = unsafe { std::slice::from_raw_parts_mut(scratch.ptr().cast::<f32>(), width * channels) };
        blended.fill(0.0);
        for &(plane, a) in &along_t[i] {
            for &(row, b_weight) in &along_h[j] {
                for column in 0..width {
                    let at = rows.offset(((b * depth + plane) * height + row) * width + column);
                    for c in 0..channels {
                        // SAFETY: the element lies in the layout.
                        let x = unsafe { (*rows.base.get().add(at + c * rows.step)).to_f32() };
                        blended[column * channels + c] += a * b_weight * x;
                    }
                }
            }
        }
        for (k, taps) in along_w.iter().enumerate() {
            for c in 0..channels {
                let y: f32 = taps.iter().map(|&(column, weight)| weight * blended[column * channels + c]).sum();
                // SAFETY: each task writes its own row.
                unsafe { base.get().add((task * w + k) * channels + c).write(T::from_f32(y)) };
            }
        }
    })
}
