//! Softmax over the last dimension; see `softmax.cu`.

use tubelet_engine::{Result, Tensor, ops::softmax::Softmax};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    nest::Nest,
    rows::Rows,
};

module!("softmax");

parameters!(Parameters { x: u64, y: u64, nest: Nest<1>, stride: i64, rows: u32, columns: u32, log: u32, wide: u32 });

pub(crate) fn run(cuda: &CudaBackend, op: &Softmax, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let (x, y) = (operand("softmax", inputs, 0)?, result("softmax", outputs, 0)?);
    let dtype = cuda.float("softmax", x.dtype())?;
    let rows = Rows::new(cuda, "softmax", [x])?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        y: cuda.address(y)?,
        nest: rows.nest,
        stride: rows.stride[0],
        rows: rows.rows,
        columns: rows.columns,
        log: op.log.into(),
        wide: rows.wide,
    };
    cuda.launch(&MODULE, &format!("softmax_{dtype}"), rows.blocks(), THREADS, &parameters)
}
