//! A function of each element.

use tubelet_engine::{Function, Result, Tensor, ops::unary::Unary};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
    operand::are_fours,
};

/// Its number in `math.wgsl`, which has the functions in the order of [`Function::ALL`], and the identity after them.
pub(crate) fn number(function: Option<Function>) -> u32 {
    Function::ALL.iter().position(|&f| Some(f) == function).unwrap_or(Function::ALL.len()) as u32
}

pub fn run(op: &Unary, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (x, y) = (operand(inputs, 0)?, &outputs[0]);
    let fours = are_fours(&[x, y], gpu);
    Kernel::new("unary", if fours { include_str!("unary_fours.wgsl") } else { include_str!("unary.wgsl") })
        .read("x", x)
        .by_fours(fours)
        .write("y", y)
        .by_fours(fours)
        .constant("FUNCTION", number(Some(op.function)))
        .launch_each(if fours { y.elements() / 4 } else { y.elements() }, gpu)
}
