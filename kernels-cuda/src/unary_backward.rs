//! Gradient of a function of each element; see `unary_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::unary_backward::UnaryBackward};

use crate::{
    backend::{CudaBackend, operand, result},
    elementwise::{Elementwise, Lanes, function_code},
    nest::Nest,
};

module!("unary_backward");

parameters!(Parameters {
    x: u64,
    gradient: u64,
    dx: u64,
    nest: Nest<2>,
    count: u32,
    function: u32,
    broadcast: u32,
    unused: u32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &UnaryBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "unary_backward";
    let (x, gradient, dx) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let dtype = cuda.float(name, x.dtype())?;
    let Elementwise { nest, count, broadcast, suffix } =
        Elementwise::new(cuda, name, x.shape(), [x, gradient], Lanes::of(x.dtype()))?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        gradient: cuda.address(gradient)?,
        dx: cuda.address(dx)?,
        nest,
        count,
        function: function_code(Some(op.function)),
        broadcast,
        unused: 0,
    };
    cuda.launch_each(&MODULE, &format!("unary_backward_{dtype}{suffix}"), count, &parameters)
}
