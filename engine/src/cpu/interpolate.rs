//! Trilinear resampling.

use super::{Cpu, Shared, resample::Resample, strided::Strided, with_float};
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
    let taps: [_; 3] = std::array::from_fn(|d| linear(s[1 + d], op.size[d], op.align_corners));
    let (rows, out) = (Strided::new(x, cpu)?, Shared(cpu.ptr::<T>(out)?));
    Resample { x: &rows, size: [s[0], s[1], s[2], s[3]], along: taps.each_ref(), out }.run(cpu)
}
