//! A function of each element.

use tubelet_engine::{Function, Result, Tensor, ops::unary::Unary};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
};

/// Its number in `math.wgsl`, which has the functions in the order of [`Function::ALL`], and the identity after them.
pub(crate) fn number(function: Option<Function>) -> u32 {
    Function::ALL.iter().position(|&f| Some(f) == function).unwrap_or(Function::ALL.len()) as u32
}

pub fn run(op: &Unary, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    Kernel::new("unary", include_str!("unary.wgsl"))
        .read("x", operand(inputs, 0)?)
        .write("y", &outputs[0])
        .constant("FUNCTION", number(Some(op.function)))
        .launch_each(outputs[0].elements(), gpu)
}
