//! Trilinear resampling: the planes and rows of an output row are blended first, all columns at once, then the columns.

use super::{Cpu, Shared, resample, strided::Strided, with_float};
use crate::{
    Element, Result, Tensor,
    ops::{interpolate::Interpolate, taps::linear},
};

pub fn run(op: &Interpolate, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_float!("interpolate", x.dtype(), T => typed::<T>(op, x, &outputs[0], cpu))
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
        let blended = scratch.ptr().cast::<f32>();
        let mut taps = Vec::with_capacity(4);
        for &(plane, along_t) in &along_t[i] {
            let first = |row: usize| ((b * depth + plane) * height + row) * width;
            taps.extend(along_h[j].iter().map(|&(row, along_h)| (first(row), along_t * along_h)));
        }
        // SAFETY: the scratch holds a row and belongs to this task, which writes its own row.
        unsafe {
            resample::blend(cpu.level, &taps, &rows, width, blended);
            resample::gather(cpu.level, &along_w, channels, blended, base.get().add(task * w * channels));
        }
    })
}
