//! Arithmetic of two tensors, element by element, with broadcasting.

use tubelet_engine::{
    DType, Result, Tensor,
    ops::binary::{Binary, Operator},
};

use crate::{
    device::Wgpu,
    halves,
    kernel::{Kernel, operand},
    operand::are_fours,
};

pub fn run(op: &Binary, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let y = &outputs[0];
    let a = operand(inputs, 0)?.detach().broadcast_to(y.shape())?;
    let b = operand(inputs, 1)?.detach().broadcast_to(y.shape())?;
    // Sums, differences and products of f16 by fours are of f16.
    let fours = are_fours(&[&a, &b, y], gpu) && (y.dtype() != DType::F16 || halves::are_exact(y.device(), gpu));
    launch(op.operator, &a, &b, y, fours, gpu)
}

/// Of operands of the result's shape; `fours` if they [`are_fours`].
pub(crate) fn launch(operator: Operator, a: &Tensor, b: &Tensor, y: &Tensor, fours: bool, gpu: &Wgpu) -> Result<()> {
    let operator = match operator {
        Operator::Add => 0,
        Operator::Sub => 1,
        Operator::Mul => 2,
        Operator::Div => 3,
        Operator::Max => 4,
        Operator::Min => 5,
    };
    Kernel::new("binary", if fours { include_str!("binary_fours.wgsl") } else { include_str!("binary.wgsl") })
        .read("a", a)
        .by_fours(fours)
        .read("b", b)
        .by_fours(fours)
        .write("y", y)
        .by_fours(fours)
        .constant("OPERATOR", operator)
        .launch_each(if fours { y.elements() / 4 } else { y.elements() }, gpu)
}
