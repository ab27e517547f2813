//! Layer normalisation with residual; see `layer_norm.cu`.

use tubelet_engine::{Result, Tensor, ops::layer_norm::LayerNorm};

use crate::{
    backend::{CudaBackend, THREADS, operand, optional, result},
    nest::Nest,
    product::dense,
    rows::Rows,
};

module!("layer_norm");

parameters!(Parameters {
    x: u64,
    residual: u64,
    weight: u64,
    bias: u64,
    y: u64,
    sum: u64,
    nest: Nest<2>,
    x_stride: i64,
    residual_stride: i64,
    rows: u32,
    columns: u32,
    eps: f32,
    wide: u32,
});

pub(crate) fn run(cuda: &CudaBackend, op: &LayerNorm, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let name = "layer_norm";
    let (x, y, residual) = (operand(name, inputs, 0)?, result(name, outputs, 0)?, optional(inputs, 3));
    let (weight, bias) = (dense(optional(inputs, 1))?, dense(optional(inputs, 2))?);
    let dtype = cuda.float(name, x.dtype())?;
    let rows = Rows::new(cuda, name, [x, residual.unwrap_or(x)])?;
    let parameters = Parameters {
        x: cuda.address(x)?,
        residual: cuda.address_or_null(residual)?,
        weight: cuda.address_or_null(weight.as_ref())?,
        bias: cuda.address_or_null(bias.as_ref())?,
        y: cuda.address(y)?,
        sum: cuda.address_or_null(outputs.get(1))?,
        nest: rows.nest,
        x_stride: rows.stride[0],
        residual_stride: rows.stride[1],
        rows: rows.rows,
        columns: rows.columns,
        eps: op.eps,
        wide: rows.wide,
    };
    cuda.launch(&MODULE, &format!("layer_norm_{dtype}"), rows.blocks(), THREADS, &parameters)
}
