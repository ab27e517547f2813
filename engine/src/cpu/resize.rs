//! Separable resampling: for each output row the input rows are blended first, all columns at once, then the columns.

use super::{Cpu, Shared, resample, strided::Strided, with_float};
use crate::{
    DType, Element, Result, Tensor,
    ops::{resize::Resize, taps::resized},
};

pub fn run(op: &Resize, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    if x.dtype() == DType::U8 {
        return typed::<u8>(op, x, &outputs[0], cpu);
    }
    with_float!("resize", x.dtype(), T => typed::<T>(op, x, &outputs[0], cpu))
}

fn typed<T: Element>(op: &Resize, x: &Tensor, out: &Tensor, cpu: &Cpu) -> Result<()> {
    let s = x.shape();
    let (height, width, channels) = (s[1], s[2], s[3]);
    let (vertical, horizontal) = (resized(op, height, op.height), resized(op, width, op.width));
    let rows = Strided::<T>::new(x, cpu)?;
    let base = Shared(cpu.ptr::<T>(out)?);
    cpu.with_scratch(s[0] * op.height, width * channels, |task, scratch| {
        let (image, i) = (task / op.height, task % op.height);
        let blended = scratch.ptr().cast::<f32>();
        // SAFETY: the scratch holds a row and belongs to this task, which writes its own row.
        unsafe {
            let taps: Vec<_> = vertical[i].iter().map(|&(row, weight)| ((image * height + row) * width, weight)).collect();
            resample::blend(cpu.level, &taps, &rows, width, blended);
            let y = base.get().add(task * op.width * channels);
            resample::gather(cpu.level, &horizontal, channels, blended, y);
        }
    })
}
