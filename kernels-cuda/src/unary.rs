//! A function of each element; see `unary.cu`.

use tubelet_engine::{Result, Tensor, ops::unary::Unary};

use crate::{
    backend::{CudaBackend, operand, result},
    elementwise::{Elementwise, Lanes, function_code},
    nest::Nest,
};

module!("unary");

parameters!(Parameters { x: u64, y: u64, nest: Nest<1>, count: u32, function: u32, broadcast: u32, unused: u32 });

pub(crate) fn run(cuda: &CudaBackend, op: &Unary, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let (x, y) = (operand("unary", inputs, 0)?, result("unary", outputs, 0)?);
    let name = cuda.float("unary", x.dtype())?;
    let Elementwise { nest, count, broadcast, suffix } = Elementwise::new(cuda, "unary", x.shape(), [x], Lanes::of(x.dtype()))?;
    let function = function_code(Some(op.function));
    let parameters = Parameters { x: cuda.address(x)?, y: cuda.address(y)?, nest, count, function, broadcast, unused: 0 };
    cuda.launch_each(&MODULE, &format!("unary_{name}{suffix}"), count, &parameters)
}
