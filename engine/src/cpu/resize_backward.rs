//! Gradient of separable resampling: a task owns one image; each row of the gradient is spread over the columns first, then over the rows.

use super::{Cpu, Shared, convert::Cast, resample, strided::Strided, with_float};
use crate::{
    Element, Result, Tensor,
    ops::{resize_backward::ResizeBackward, taps::resized},
};

pub fn run(op: &ResizeBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(gradient)] = *inputs else { return Ok(()) };
    with_float!("resize_backward", gradient.dtype(), T => typed::<T>(op, gradient, &outputs[0], cpu))
}

fn typed<T: Element>(op: &ResizeBackward, gradient: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let (g, [height, width]) = (gradient.shape(), op.size);
    let channels = g[3];
    let (vertical, horizontal) = (resized(&op.resize, height, g[1]), resized(&op.resize, width, g[2]));
    let rows = Strided::<T>::new(gradient, cpu)?;
    let base = Shared(cpu.ptr::<T>(out)?);
    let (line, floats) = (width * channels, height * width * channels);
    cpu.with_scratch(g[0], line + floats, |image, scratch| {
        let sums = scratch.ptr().cast::<f32>();
        // SAFETY: the scratch holds an image and a line, and belongs to this task, which writes its own image.
        unsafe {
            let spread = sums.add(floats);
            sums.write_bytes(0, floats);
            for (i, taps) in vertical.iter().enumerate() {
                spread.write_bytes(0, line);
                resample::spread(cpu.level, &horizontal, &rows, (image * g[1] + i) * g[2], spread);
                for &(row, weight) in taps {
                    resample::add(cpu.level, weight, spread, line, sums.add(row * line));
                }
            }
            cpu.level.run(Cast { src: sums, step: 1, dst: base.get().add(image * floats), len: floats });
        }
    })
}
