//! Gradient of batch normalisation; see `batch_norm_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::batch_norm_backward::BatchNormBackward};

use crate::{
    backend::{CudaBackend, THREADS, operand, optional, result},
    batch_norm::statistics,
    elementwise::type_code,
    nest::Nest,
    product::dense,
    rows::Rows,
};

module!("batch_norm_backward");

parameters!(Parameters {
    x: u64,
    gradient: u64,
    weight: u64,
    mean: u64,
    var: u64,
    dx: u64,
    dweight: u64,
    dbias: u64,
    partial: u64,
    totals: u64,
    nest: Nest<2>,
    x_stride: i64,
    gradient_stride: i64,
    rows: u32,
    columns: u32,
    segments: u32,
    batch: u32,
    eps: f32,
    count: u32,
    dtype: u32,
    wide: u32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &BatchNormBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "batch_norm_backward";
    let (x, gradient) = (operand(name, inputs, 0)?, operand(name, inputs, 4)?);
    let (dx, dweight, dbias) = (result(name, outputs, 0)?, result(name, outputs, 1)?, result(name, outputs, 2)?);
    let weight = dense(optional(inputs, 1))?;
    let (mean, var) = (statistics(operand(name, inputs, 2)?)?, statistics(operand(name, inputs, 3)?)?);
    let dtype = cuda.float(name, x.dtype())?;
    let rows = Rows::new(cuda, name, [x, gradient])?.beside(cuda, [weight.as_ref(), None])?;
    let segments = rows.segments();
    cuda.count(name, x.elements())?;
    let partial = cuda.scratch(segments.scratch(2, rows.columns))?;
    let totals = cuda.scratch(2 * rows.columns as usize * 4)?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        gradient: cuda.address(gradient)?,
        weight: cuda.address_or_null(weight.as_ref())?,
        mean: cuda.address(&mean)?,
        var: cuda.address(&var)?,
        dx: cuda.address(dx)?,
        dweight: cuda.address(dweight)?,
        dbias: cuda.address(dbias)?,
        partial: partial.address,
        totals: totals.address,
        nest: rows.nest,
        x_stride: rows.stride[0],
        gradient_stride: rows.stride[1],
        rows: rows.rows,
        columns: rows.columns,
        segments: segments.count,
        batch: op.batch.into(),
        eps: op.eps,
        count: rows.packs(x.dtype()),
        dtype: type_code(x.dtype()),
        wide: rows.wide,
    };
    let kernel = |step: &str| format!("batch_norm_backward_{step}");
    cuda.launch(&MODULE, &kernel("sums"), segments.blocks, THREADS, &parameters)?;
    cuda.launch_each(&MODULE, &kernel("parameters"), rows.columns, &parameters)?;
    cuda.launch_each(&MODULE, &format!("batch_norm_backward_dx_{dtype}"), parameters.count, &parameters)
}
