//! Selection along one dimension; see `gather.cu`.

use tubelet_engine::{Result, Tensor, ops::gather::Gather};

use crate::{
    backend::{CudaBackend, operand, result},
    elementwise::bits,
    nest::Nest,
};

module!("gather");

parameters!(Parameters { x: u64, indices: u64, y: u64, nest: Nest<2>, stride: i64, count: u32, size: i32 });

pub(crate) fn run(cuda: &CudaBackend, op: &Gather, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let (x, indices, y) = (operand("gather", inputs, 0)?, operand("gather", inputs, 1)?, result("gather", outputs, 0)?);
    let mut along_x = x.layout().strides().to_vec();
    let stride = std::mem::take(&mut along_x[op.axis]) as i64;
    let along_indices = [indices.layout().strides(), &[0]].concat();
    let count = cuda.count("gather", y.elements())?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        indices: cuda.address(indices)?,
        y: cuda.address(y)?,
        nest: Nest::new(y.shape(), [&along_x, &along_indices]),
        stride,
        count,
        size: cuda.count("gather", x.shape()[op.axis])? as i32,
    };
    cuda.launch_each(&MODULE, &format!("gather_{}", bits(x.dtype())), count, &parameters)
}
