//! Batch normalisation; see `batch_norm.cu`.

use tubelet_engine::{DType, Result, Tensor, ops::batch_norm::BatchNorm};

use crate::{
    backend::{CudaBackend, THREADS, operand, optional, result},
    elementwise::type_code,
    nest::Nest,
    product::dense,
    rows::Rows,
};

module!("batch_norm");

parameters!(Parameters {
    x: u64,
    weight: u64,
    bias: u64,
    y: u64,
    mean: u64,
    var: u64,
    partial: u64,
    nest: Nest<1>,
    stride: i64,
    rows: u32,
    columns: u32,
    segments: u32,
    second: u32,
    eps: f32,
    count: u32,
    dtype: u32,
    wide: u32,
});

/// Statistics as the kernels read them.
pub(crate) fn statistics(x: &Tensor) -> Result<Tensor> {
    x.detach().cast(DType::F32)?.contiguous()
}

pub(crate) fn run(cuda: &CudaBackend, op: &BatchNorm, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "batch_norm";
    let (x, y) = (operand(name, inputs, 0)?, result(name, outputs, 0)?);
    let (weight, bias) = (dense(optional(inputs, 1))?, dense(optional(inputs, 2))?);
    let training = optional(inputs, 3).is_none();
    let (mean, var) = match training {
        true => (result(name, outputs, 1)?.clone(), result(name, outputs, 2)?.clone()),
        false => (statistics(operand(name, inputs, 3)?)?, statistics(operand(name, inputs, 4)?)?),
    };
    let dtype = cuda.float(name, x.dtype())?;
    let rows = Rows::new(cuda, name, [x])?.beside(cuda, [weight.as_ref(), bias.as_ref()])?;
    let segments = rows.segments();
    cuda.count(name, x.elements())?;
    let partial = cuda.scratch(segments.scratch(1, rows.columns))?;
    let mut parameters = Parameters {
        x: cuda.address(x)?,
        weight: cuda.address_or_null(weight.as_ref())?,
        bias: cuda.address_or_null(bias.as_ref())?,
        y: cuda.address(y)?,
        mean: cuda.address(&mean)?,
        var: cuda.address(&var)?,
        partial: partial.address,
        nest: rows.nest,
        stride: rows.stride[0],
        rows: rows.rows,
        columns: rows.columns,
        segments: segments.count,
        second: 0,
        eps: op.eps,
        count: rows.packs(x.dtype()),
        dtype: type_code(x.dtype()),
        wide: rows.wide,
    };
    if training {
        for second in [0, 1] {
            parameters.second = second;
            cuda.launch(&MODULE, "batch_norm_sums", segments.blocks, THREADS, &parameters)?;
            cuda.launch_each(&MODULE, "batch_norm_statistics", rows.columns, &parameters)?;
        }
    }
    cuda.launch_each(&MODULE, &format!("batch_norm_normalize_{dtype}"), parameters.count, &parameters)
}
