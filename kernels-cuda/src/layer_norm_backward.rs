//! Gradient of layer normalisation; see `layer_norm_backward.cu`.

use tubelet_engine::{Result, Tensor, ops::layer_norm_backward::LayerNormBackward};

use crate::{
    backend::{CudaBackend, THREADS, operand, optional, result},
    nest::Nest,
    product::dense,
    rows::Rows,
};

module!("layer_norm_backward");

parameters!(Parameters {
    x: u64,
    gradient: u64,
    weight: u64,
    dx: u64,
    dweight: u64,
    dbias: u64,
    statistics: u64,
    partial: u64,
    nest: Nest<2>,
    x_stride: i64,
    gradient_stride: i64,
    rows: u32,
    columns: u32,
    segments: u32,
    eps: f32,
    wide: u32,
    unused: u32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &LayerNormBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "layer_norm_backward";
    let (x, gradient) = (operand(name, inputs, 0)?, operand(name, inputs, 2)?);
    let (dx, dweight, dbias) = (result(name, outputs, 0)?, result(name, outputs, 1)?, result(name, outputs, 2)?);
    let weight = dense(optional(inputs, 1))?;
    let dtype = cuda.float(name, x.dtype())?;
    let rows = Rows::new(cuda, name, [x, gradient])?;
    let segments = rows.segments();
    let statistics = cuda.scratch(rows.rows as usize * 2 * 4)?;
    let partial = cuda.scratch(segments.scratch(2, rows.columns))?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        gradient: cuda.address(gradient)?,
        weight: cuda.address_or_null(weight.as_ref())?,
        dx: cuda.address(dx)?,
        dweight: cuda.address(dweight)?,
        dbias: cuda.address(dbias)?,
        statistics: statistics.address,
        partial: partial.address,
        nest: rows.nest,
        x_stride: rows.stride[0],
        gradient_stride: rows.stride[1],
        rows: rows.rows,
        columns: rows.columns,
        segments: segments.count,
        eps: op.eps,
        wide: rows.wide,
        unused: 0,
    };
    let kernel = |step: &str| format!("layer_norm_backward_{dtype}_{step}");
    cuda.launch(&MODULE, &kernel("dx"), rows.blocks(), THREADS, &parameters)?;
    cuda.launch(&MODULE, &kernel("sums"), segments.blocks, THREADS, &parameters)?;
    cuda.launch_each(&MODULE, &kernel("parameters"), rows.columns, &parameters)
}
