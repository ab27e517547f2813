//! Gradient of a selection; see `gather_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::gather_backward::GatherBackward};

use crate::{
    backend::{CudaBackend, operand, result},
    nest::Nest,
};

module!("gather_backward");

parameters!(Parameters {
    gradient: u64,
    indices: u64,
    dx: u64,
    nest: Nest<3>,
    gradient_stride: i64,
    index_stride: i64,
    count: u32,
    size: i32,
    chosen: u32,
    unused: u32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &GatherBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "gather_backward";
    let (gradient, indices, dx) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let mut along_gradient = gradient.layout().strides().to_vec();
    let gradient_stride = std::mem::take(&mut along_gradient[op.axis]) as i64;
    let mut along_indices = [indices.layout().strides(), &[0]].concat();
    let index_stride = std::mem::take(&mut along_indices[op.axis]) as i64;
    let mut along_axis = vec![0; dx.rank()];
    along_axis[op.axis] = 1;
    let count = cuda.count(name, dx.elements())?;
    let parameters = Parameters {
        gradient: cuda.address(gradient)?,
        indices: cuda.address(indices)?,
        dx: cuda.address(dx)?,
        nest: Nest::new(dx.shape(), [&along_gradient, &along_indices, &along_axis]),
        gradient_stride,
        index_stride,
        count,
        size: cuda.count(name, op.size)? as i32,
        chosen: cuda.count(name, indices.shape()[op.axis])?,
        unused: 0,
    };
    cuda.launch_each(&MODULE, &format!("gather_backward_{}", cuda.float(name, dx.dtype())?), count, &parameters)
}
