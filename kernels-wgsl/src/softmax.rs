//! Softmax over the last dimension.

use tubelet_engine::{Result, Tensor, ops::softmax::Softmax};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
};

pub fn run(op: &Softmax, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let columns = x.shape()[x.rank() - 1];
    Kernel::new("softmax", include_str!("softmax.wgsl"))
        .lanes(gpu.row_lanes())
        .rows("x", x)
        .write("y", &outputs[0])
        .size("columns", columns)
        .constant("LOG_RESULT", op.log.into())
        .launch(x.elements() / columns, gpu)
}
