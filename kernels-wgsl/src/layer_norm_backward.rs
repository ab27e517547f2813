//! Gradient of layer normalisation: by rows for the operand, then by columns for the parameters.

use tubelet_engine::{DType, Result, Tensor, ops::layer_norm_backward::LayerNormBackward};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &LayerNormBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (x, gradient) = (operand(inputs, 0)?, operand(inputs, 2)?);
    let columns = x.shape()[x.rank() - 1];
    let rows = x.elements() / columns;
    let mean = Tensor::empty(x.device(), DType::F32, &[rows])?;
    let rate = Tensor::empty(x.device(), DType::F32, &[rows])?;
    Kernel::new("layer_norm_backward", include_str!("layer_norm_backward.wgsl"))
        .lanes(gpu.row_lanes())
        .rows("x", x)
        .rows("gradient", gradient)
        .read_optional("weight", optional(inputs, 1))
        .write("dx", &outputs[0])
        .write("mean", &mean)
        .write("rate", &rate)
        .size("columns", columns)
        .number("eps", op.eps)
        .launch(rows, gpu)?;
    Kernel::new("layer_norm_backward_columns", include_str!("layer_norm_backward_columns.wgsl"))
        .lanes(gpu.row_lanes())
        .rows("x", x)
        .rows("gradient", gradient)
        .read("mean", &mean)
        .read("rate", &rate)
        .write("dweight", &outputs[1])
        .write("dbias", &outputs[2])
        .size("rows", rows)
        .launch(columns, gpu)
}
