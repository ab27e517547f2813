//! Arithmetic of two tensors, element by element, with broadcasting.

use tubelet_engine::{
    Result, Tensor,
    ops::binary::{Binary, Operator},
};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
};

pub fn run(op: &Binary, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let y = &outputs[0];
    let a = operand(inputs, 0)?.detach().broadcast_to(y.shape())?;
    let b = operand(inputs, 1)?.detach().broadcast_to(y.shape())?;
    let operator = match op.operator {
        Operator::Add => 0,
        Operator::Sub => 1,
        Operator::Mul => 2,
        Operator::Div => 3,
        Operator::Max => 4,
        Operator::Min => 5,
    };
    Kernel::new("binary", include_str!("binary.wgsl"))
        .read("a", &a)
        .read("b", &b)
        .write("y", y)
        .constant("OPERATOR", operator)
        .launch_each(y.elements(), gpu)
}
