//! Gradient of the softmax; see `softmax_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::softmax_backward::SoftmaxBackward};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    nest::Nest,
    rows::Rows,
};

module!("softmax_backward");

parameters!(Parameters {
    y: u64,
    gradient: u64,
    dx: u64,
    nest: Nest<2>,
    y_stride: i64,
    gradient_stride: i64,
    rows: u32,
    columns: u32,
    log: u32,
    wide: u32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &SoftmaxBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "softmax_backward";
    let (y, gradient, dx) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let dtype = cuda.float(name, y.dtype())?;
    let rows = Rows::new(cuda, name, [y, gradient])?;
    let parameters = Parameters {
        y: cuda.address(y)?,
        gradient: cuda.address(gradient)?,
        dx: cuda.address(dx)?,
        nest: rows.nest,
        y_stride: rows.stride[0],
        gradient_stride: rows.stride[1],
        rows: rows.rows,
        columns: rows.columns,
        log: op.log.into(),
        wide: rows.wide,
    };
    cuda.launch(&MODULE, &format!("softmax_backward_{dtype}"), rows.blocks(), THREADS, &parameters)
}
