//! Gradient of trilinear resampling: a task owns one batch element (of a kernel, one output channel) and adds to it in the gradient's order.

use super::{Cpu, Shared, strided::Strided};
use crate::{
    Element, Result, Tensor,
    ops::{interpolate_backward::InterpolateBackward, taps::linear},
    with_element,
};

pub fn run(op: &InterpolateBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(gradient)] = *inputs else { return Ok(()) };
    with_element!(gradient.dtype(), T => typed::<T>(op, gradient, &outputs[0], cpu))
}

fn typed<T: Element>(op: &InterpolateBackward, gradient: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let g = gradient.shape();
    let ([t, h, w], [depth, height, width], channels) = ([g[1], g[2], g[3]], op.size, g[4]);
    let [along_t, along_h, along_w] = [(depth, t), (height, h), (width, w)].map(|(n, m)| linear(n, m, op.align_corners));
    let rows = Strided::<T>::new(gradient, cpu)?;
    let base = Shared(cpu.ptr::<T>(out)?);
    let floats = depth * height * width * channels;
    cpu.with_scratch(g[0], floats, |b, scratch| {
        // SAFETY: the scratch holds one batch element, and belongs to this task.
        let sums = unsafe { std::slice::from_raw_parts_mut(scratch.ptr().cast::<f32>(), floats) };
        sums.fill(0.0);
        for row in 0..t * h * w {
            let (i, j, k) = (row / (h * w), row / w % h, row % w);
            let at = rows.offset(b * t * h * w + row);
            for &(plane, a) in &along_t[i] {
                for &(line, b) in &along_h[j] {
                    for &(column, c) in &along_w[k] {
                        let to = &mut sums[((plane * height + line) * width + column) * channels..][..channels];
                        for (channel, sum) in to.iter_mut().enumerate() {
                            // SAFETY: the element lies in the layout.
                            let g = unsafe { (*rows.base.get().add(at + channel * rows.step)).to_f32() };
                            *sum += a * b * c * g;
                        }
                    }
                }
            }
        }
        for (i, &sum) in sums.iter().enumerate() {
            // SAFETY: each task writes its own batch element.
            unsafe { base.get().add(b * floats + i).write(T::from_f32(sum)) };
        }
    })
}
