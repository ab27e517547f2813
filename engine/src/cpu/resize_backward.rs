//! Gradient of separable resampling: a task owns one image; each row of the gradient is spread over the columns first, then over the rows.

use super::{Cpu, Shared, strided::Strided};
use crate::{Element, Result, Tensor, ops::{resize_backward::ResizeBackward, taps::resized}, with_element};

pub fn run(op: &ResizeBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(gradient)] = *inputs else { return Ok(()) };
    with_element!(gradient.dtype(), T => typed::<T>(op, gradient, &outputs[0], cpu))
}

fn typed<T: Element>(op: &ResizeBackward, gradient: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let (g, [height, width]) = (gradient.shape(), op.size);
    let channels = g[3];
    let (vertical, horizontal) = (resized(&op.resize, height, g[1]), resized(&op.resize, width, g[2]));
    let rows = Strided::<T>::new(gradient, cpu)?;
    let base = Shared(cpu.ptr::<T>(out)?);
    let (line, floats) = (width * channels, height * width * channels);
    cpu.with_scratch(g[0], line + floats, |image, scratch| {
        // SAFETY: the scratch holds a line and an image, and belongs to this task.
        let scratch = unsafe { std::slice::from_raw_parts_mut(scratch.ptr().cast::<f32>(), line + floats) };
        let (spread, sums) = scratch.split_at_mut(line);
        sums.fill(0.0);
        for (i, taps) in vertical.iter().enumerate() {
            spread.fill(0.0);
            for (j, taps) in horizontal.iter().enumerate() {
                let at = rows.offset((image * g[1] + i) * g[2] + j);
                for &(column, weight) in taps {
                    for c in 0..channels {
                        // SAFETY: the element lies in the layout.
                        let g = unsafe { (*rows.base.get().add(at + c * rows.step)).to_f32() };
                        spread[column * channels + c] += weight * g;
                    }
                }
            }
            for &(row, weight) in taps {
                sums[row * line..][..line].iter_mut().zip(&*spread).for_each(|(sum, x)| *sum += weight * x);
            }
        }
        for (i, &sum) in sums.iter().enumerate() {
            // SAFETY: each task writes its own image.
            unsafe { base.get().add(image * floats + i).write(T::from_f32(sum)) };
        }
    })
}
