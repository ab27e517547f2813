//! Cross-entropy; see `cross_entropy.cu`.

use tubelet_engine::{DType, Result, Tensor, ops::cross_entropy::CrossEntropy};

use crate::{
    backend::{CudaBackend, THREADS, operand, result},
    elementwise::type_code,
    losses::Losses,
    nest::Nest,
    rows::Rows,
};

module!("cross_entropy");

parameters!(
    /// See `Target` in `cross_entropy.cuh`.
    Target {
        labels: u64,
        soft: u64,
        row: i64,
        column: i64,
        label_smoothing: f32,
        classes: u32,
        dtype: u32,
        unused: u32,
    }
);

impl Target {
    pub fn new(cuda: &CudaBackend, op: &'static str, loss: &CrossEntropy, target: &Tensor, logits: &Tensor) -> Result<Target> {
        let (address, strides) = (cuda.address(target)?, target.layout().strides());
        let hard = target.dtype() == DType::I32;
        Ok(Target {
            labels: if hard { address } else { 0 },
            soft: if hard { 0 } else { address },
            row: strides[0] as i64,
            column: strides.get(1).map_or(0, |&s| s as i64),
            label_smoothing: loss.label_smoothing,
            classes: cuda.count(op, logits.shape()[1])?,
            dtype: type_code(logits.dtype()),
            unused: 0,
        })
    }
}

parameters!(Parameters {
    logits: u64,
    each: u64,
    total: u64,
    target: Target,
    nest: Nest<1>,
    stride: i64,
    samples: u32,
    factor: f32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &CrossEntropy, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "cross_entropy";
    let (logits, target, y) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?, result(name, outputs, 0)?);
    cuda.float(name, logits.dtype())?;
    let rows = Rows::new(cuda, name, [logits])?;
    let losses = Losses::new(cuda, op.reduction, logits.shape()[0], y)?;
    let parameters = Parameters {
        logits: cuda.address(logits)?,
        each: losses.each,
        total: losses.total,
        target: Target::new(cuda, name, op, target, logits)?,
        nest: rows.nest,
        stride: rows.stride[0],
        samples: rows.rows,
        factor: losses.factor,
    };
    cuda.launch(&MODULE, name, rows.blocks(), THREADS, &parameters)?;
    match losses.added {
        true => cuda.launch(&MODULE, "cross_entropy_total", 1, THREADS, &parameters),
        false => Ok(()),
    }
}
