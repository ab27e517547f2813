//! Gradient of the cross-entropy; see `cross_entropy_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::cross_entropy_backward::CrossEntropyBackward};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    cross_entropy::Target,
    losses::share,
    nest::Nest,
    rows::Rows,
};

module!("cross_entropy_backward");

parameters!(Parameters {
    logits: u64,
    gradient: u64,
    dx: u64,
    target: Target,
    nest: Nest<1>,
    stride: i64,
    gradient_stride: i64,
    samples: u32,
    factor: f32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &CrossEntropyBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "cross_entropy_backward";
    let (logits, target, gradient) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, operand(name, inputs, 2)?);
    let dx = result(name, outputs, 0)?;
    cuda.float(name, logits.dtype())?;
    let rows = Rows::new(cuda, name, [logits])?;
    let parameters = Parameters {
        logits: cuda.address(logits)?,
        gradient: cuda.address(gradient)?,
        dx: cuda.address(dx)?,
        target: Target::new(cuda, name, &op.loss, target, logits)?,
        nest: rows.nest,
        stride: rows.stride[0],
        gradient_stride: gradient.layout().strides().first().map_or(0, |&s| s as i64),
        samples: rows.rows,
        factor: share(op.loss.reduction, logits.shape()[0]),
    };
    cuda.launch(&MODULE, name, rows.blocks(), THREADS, &parameters)
}
