//! Binary cross-entropy; see `binary_cross_entropy.cu`.

use tubelet_engine::{Result, Tensor, ops::binary_cross_entropy::BinaryCrossEntropy};

use crate::{
    backend::{CudaBackend, THREADS, operand, optional, result},
    elementwise::type_code,
    losses::Losses,
    nest::Nest,
    product::dense,
};

module!("binary_cross_entropy");

parameters!(Parameters {
    logits: u64,
    target: u64,
    weight: u64,
    each: u64,
    total: u64,
    nest: Nest<2>,
    count: u32,
    columns: u32,
    factor: f32,
    dtype: u32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &BinaryCrossEntropy, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "binary_cross_entropy";
    let (logits, target, y) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    let weight = dense(optional(inputs, 2))?;
    cuda.float(name, logits.dtype())?;
    let losses = Losses::new(cuda, op.reduction, logits.elements(), y)?;
    let parameters = Parameters {
        logits: cuda.address(logits)?,
        target: cuda.address(target)?,
        weight: cuda.address_or_null(weight.as_ref())?,
        each: losses.each,
        total: losses.total,
        nest: Nest::new(logits.shape(), [logits, target].map(|x| x.layout().strides())),
        count: cuda.count(name, logits.elements())?,
        columns: cuda.count(name, logits.shape()[1])?,
        factor: losses.factor,
        dtype: type_code(logits.dtype()),
    };
    cuda.launch_each(&MODULE, name, parameters.count, &parameters)?;
    match losses.added {
        true => cuda.launch(&MODULE, "binary_cross_entropy_total", 1, THREADS, &parameters),
        false => Ok(()),
    }
}
