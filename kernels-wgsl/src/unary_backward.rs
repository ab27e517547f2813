//! Gradient of a function of each element.

use tubelet_engine::{Result, Tensor, ops::unary_backward::UnaryBackward};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
    unary::number,
};

pub fn run(op: &UnaryBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    Kernel::new("unary_backward", include_str!("unary_backward.wgsl"))
        .read("x", operand(inputs, 0)?)
        .read("gradient", operand(inputs, 1)?)
        .write("dx", &outputs[0])
        .constant("FUNCTION", number(Some(op.function)))
        .launch_each(outputs[0].elements(), gpu)
}
