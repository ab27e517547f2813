//! Arithmetic of two tensors; see `binary.cu`.

use tubelet_engine::{
    Result, Tensor,
    ops::binary::{Binary, Operator},
};

use crate::{
    backend::{CudaBackend, operand, result},
    elementwise::{Elementwise, Lanes},
    nest::Nest,
};

module!("binary");

parameters!(Parameters { a: u64, b: u64, y: u64, nest: Nest<2>, count: u32, op: u32, broadcast: u32, unused: u32 });

pub(crate) fn run(cuda: &CudaBackend, op: &Binary, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let (a, b, y) = (operand("binary", inputs, 0)?, operand("binary", inputs, 1)?, result("binary", outputs, 0)?);
    let name = cuda.float("binary", a.dtype())?;
    let (a, b) = (a.detach().broadcast_to(y.shape())?, b.detach().broadcast_to(y.shape())?);
    let Elementwise { nest, count, broadcast, suffix } =
        Elementwise::new(cuda, "binary", y.shape(), [&a, &b], Lanes::of(y.dtype()))?;
    let op = match op.operator {
        Operator::Add => 0,
        Operator::Sub => 1,
        Operator::Mul => 2,
        Operator::Div => 3,
        Operator::Max => 4,
        Operator::Min => 5,
    };
    let (a, b, y) = (cuda.address(&a)?, cuda.address(&b)?, cuda.address(y)?);
    let parameters = Parameters { a, b, y, nest, count, op, broadcast, unused: 0 };
    cuda.launch_each(&MODULE, &format!("binary_{name}{suffix}"), count, &parameters)
}
