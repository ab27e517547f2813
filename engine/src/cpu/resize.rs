//! Separable resampling of images: of videos of one plane.

use super::{Cpu, Shared, resample::Resample, strided::Strided, with_float};
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
    let (vertical, horizontal) = (resized(op, s[1], op.height), resized(op, s[2], op.width));
    let (rows, out) = (Strided::new(x, cpu)?, Shared(cpu.ptr::<T>(out)?));
    Resample { x: &rows, size: [s[0], 1, s[1], s[2]], along: [&vec![vec![(0, 1.0)]], &vertical, &horizontal], out }.run(cpu)
}
