//! Gradient of softmax over the last dimension.

use tubelet_engine::{Result, Tensor, ops::softmax_backward::SoftmaxBackward};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
};

pub fn run(op: &SoftmaxBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let y = operand(inputs, 0)?;
    let columns = y.shape()[y.rank() - 1];
    Kernel::new("softmax_backward", include_str!("softmax_backward.wgsl"))
        .lanes(gpu.row_lanes())
        .rows("y", y)
        .rows("gradient", operand(inputs, 1)?)
        .write("dx", &outputs[0])
        .size("columns", columns)
        .constant("LOG_RESULT", op.log.into())
        .launch(y.elements() / columns, gpu)
}
