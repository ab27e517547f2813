//! Gradient of trilinear resampling: a task owns one batch element (of a kernel, one output channel) and adds to it in the gradient's order.

use super::{Cpu, Shared, convert::Cast, resample, strided::Strided, with_float};
use crate::{
    Element, Result, Tensor,
    ops::{interpolate_backward::InterpolateBackward, taps::linear},
};

pub fn run(op: &InterpolateBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(gradient)] = *inputs else { return Ok(()) };
    with_float!("interpolate_backward", gradient.dtype(), T => typed::<T>(op, gradient, &outputs[0], cpu))
}

fn typed<T: Element>(op: &InterpolateBackward, gradient: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let g = gradient.shape();
    let ([t, h, w], [depth, height, width], channels) = ([g[1], g[2], g[3]], op.size, g[4]);
    let [along_t, along_h, along_w] = [(depth, t), (height, h), (width, w)].map(|(n, m)| linear(n, m, op.align_corners));
    let rows = Strided::<T>::new(gradient, cpu)?;
    let base = Shared(cpu.ptr::<T>(out)?);
    let (line, floats) = (width * channels, depth * height * width * channels);
    cpu.with_scratch(g[0], floats + line, |b, scratch| {
        let sums = scratch.ptr().cast::<f32>();
        // SAFETY: the scratch holds a batch element and a line, and belongs to this task, which writes its own batch element.
        unsafe {
            let spread = sums.add(floats);
            sums.write_bytes(0, floats);
            for (i, j) in (0..t).flat_map(|i| (0..h).map(move |j| (i, j))) {
                spread.write_bytes(0, line);
                resample::spread(cpu.level, &along_w, &rows, ((b * t + i) * h + j) * w, spread);
                for &(plane, along_t) in &along_t[i] {
                    for &(row, along_h) in &along_h[j] {
                        let to = sums.add((plane * height + row) * line);
                        resample::add(cpu.level, along_t * along_h, spread, line, to);
                    }
                }
            }
            cpu.level.run(Cast { src: sums, step: 1, dst: base.get().add(b * floats), len: floats });
        }
    })
}
