//! Separable resampling: for each output row the input rows are blended first, all columns at once, then the columns.

use super::{Cpu, Shared, strided::Strided};
use crate::{
    Element, Result, Tensor,
    ops::{resize::Resize, taps::resized},
    with_element,
};

pub fn run(op: &Resize, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_element!(x.dtype(), T => typed::<T>(op, x, &outputs[0], cpu))
}

fn typed<T: Element>(op: &Resize, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let s = x.shape();
    let (height, width, channels) = (s[1], s[2], s[3]);
    let (vertical, horizontal) = (resized(op, height, op.height), resized(op, width, op.width));
    let rows = Strided::<T>::new(x, cpu)?;
    let base = Shared(cpu.ptr::<T>(out)?);
    cpu.with_scratch(s[0] * op.height, width * channels, |task, scratch| {
        let (image, i) = (task / op.height, task % op.height);
        // SAFETY: the scratch holds a row, and belongs to this task.
        let blended = unsafe { std::slice::from_raw_parts_mut(scratch.ptr().cast::<f32>(), width * channels) };
        blended.fill(0.0);
        for &(h, weight) in &vertical[i] {
            for w in 0..width {
                let at = rows.offset((image * height + h) * width + w);
                for c in 0..channels {
                    // SAFETY: the pixel lies in the layout.
                    let x = unsafe { (*rows.base.get().add(at + c * rows.step)).to_f32() };
                    blended[w * channels + c] += weight * x;
                }
            }
        }
        for (j, taps) in horizontal.iter().enumerate() {
            for c in 0..channels {
                let y: f32 = taps.iter().map(|&(w, weight)| weight * blended[w * channels + c]).sum();
                // SAFETY: each task writes its own row.
                unsafe { base.get().add((task * op.width + j) * channels + c).write(T::from_f32(y)) };
            }
        }
    })
}
