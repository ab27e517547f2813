//! Arithmetic of two operands, each broadcast by strides of 0.

use super::{
    Cpu,
    elementwise::{self, Elementwise},
    simd::Simd,
    with_float,
};
use crate::{
    Result, Tensor,
    ops::binary::{Binary, Operator},
};

pub fn run(op: &Binary, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(a), Some(b)] = *inputs else { return Ok(()) };
    with_float!("binary", a.dtype(), T => elementwise::run::<T, 2>(op.operator, [a, b], &outputs[0], cpu))
}

impl Elementwise<2> for Operator {
    #[inline(always)]
    unsafe fn of<S: Simd, const BRIEF: bool>(self, [a, b]: [S::V; 2]) -> S::V {
        // SAFETY: passed on from the caller.
        unsafe {
            match self {
                Operator::Add => S::add(a, b),
                Operator::Sub => S::sub(a, b),
                Operator::Mul => S::mul(a, b),
                Operator::Div => S::div(a, b),
                // The vector maximum gives `b` if either is NaN.
                Operator::Max => S::select_nan(a, a, S::max(a, b)),
                Operator::Min => S::select_nan(a, a, S::min(a, b)),
            }
        }
    }
}
