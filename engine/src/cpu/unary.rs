//! A function of each element.

use super::{
    Cpu,
    elementwise::{self, Elementwise},
    simd::{Simd, brief, math},
    with_float,
};
use crate::{Function, Result, Tensor, ops::unary::Unary};

pub fn run(op: &Unary, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(x)] = *inputs else { return Ok(()) };
    with_float!("unary", x.dtype(), T => elementwise::run::<T, 1>(op.function, [x], &outputs[0], cpu))
}

impl Elementwise<1> for Function {
    #[inline(always)]
    unsafe fn of<S: Simd, const BRIEF: bool>(self, [x]: [S::V; 1]) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe { if BRIEF { brief::apply::<S>(self, x) } else { math::apply::<S>(self, x) } }
    }
}
