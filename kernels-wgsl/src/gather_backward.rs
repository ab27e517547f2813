//! The transpose of gather: an invocation owns an element and looks which rows selected it, so nothing is added out of order.

use tubelet_engine::{Result, Tensor, ops::gather_backward::GatherBackward};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

pub fn run(op: &GatherBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (gradient, indices) = (operand(inputs, 0)?, operand(inputs, 1)?);
    Kernel::new("gather_backward", include_str!("gather_backward.wgsl"))
        .read("gradient", gradient)
        .read("indices", indices)
        .write("dx", &outputs[0])
        .size("size", op.size)
        .size("chosen", indices.shape()[op.axis])
        .size("after", count(&indices.shape()[op.axis + 1..]))
        .size("channels", gradient.shape()[gradient.rank() - 1])
        .launch_each(outputs[0].elements(), gpu)
}
