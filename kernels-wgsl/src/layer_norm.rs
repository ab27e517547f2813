//! Layer normalisation over the last dimension, with the residual sum in front of it if wanted.

use tubelet_engine::{Result, Tensor, ops::layer_norm::LayerNorm};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &LayerNorm, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let columns = x.shape()[x.rank() - 1];
    Kernel::new("layer_norm", include_str!("layer_norm.wgsl"))
        .lanes(gpu.row_lanes())
        .rows("x", x)
        .read_optional("weight", optional(inputs, 1))
        .read_optional("bias", optional(inputs, 2))
        .read_optional("residual", optional(inputs, 3))
        .write("y", &outputs[0])
        .write_optional("s", outputs.get(1))
        .size("columns", columns)
        .number("eps", op.eps)
        .launch(x.elements() / columns, gpu)
}
