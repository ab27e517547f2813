//! Gradient of the binary cross-entropy; see `binary_cross_entropy_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::binary_cross_entropy_backward::BinaryCrossEntropyBackward};

use crate::{
    backend::{CudaBackend, operand, optional, result},
    elementwise::type_code,
    losses::share,
    nest::Nest,
    product::dense,
};

module!("binary_cross_entropy_backward");

parameters!(Parameters {
    logits: u64,
    target: u64,
    weight: u64,
    gradient: u64,
    dx: u64,
    nest: Nest<3>,
    count: u32,
    columns: u32,
    factor: f32,
    dtype: u32,
});

pub(crate) fn run(
    cuda: &CudaBackend,
    op: &BinaryCrossEntropyBackward,
    inputs: &[Option<&Tensor>],
    outputs: &[Tensor],
) -> Result<()> {
    let name = "binary_cross_entropy_backward";
    let (logits, target, gradient) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, operand(name, inputs, 3)?);
    let (weight, dx) = (dense(optional(inputs, 2))?, result(name, outputs, 0)?);
    cuda.float(name, logits.dtype())?;
    let gradient = gradient.detach().broadcast_to(logits.shape())?;
    let parameters = Parameters {
        logits: cuda.address(logits)?,
        target: cuda.address(target)?,
        weight: cuda.address_or_null(weight.as_ref())?,
        gradient: cuda.address(&gradient)?,
        dx: cuda.address(dx)?,
        nest: Nest::new(logits.shape(), [logits, target, &gradient].map(|x| x.layout().strides())),
        count: cuda.count(name, logits.elements())?,
        columns: cuda.count(name, logits.shape()[1])?,
        factor: share(op.loss.reduction, logits.elements()),
        dtype: type_code(logits.dtype()),
    };
    cuda.launch_each(&MODULE, name, parameters.count, &parameters)
}
