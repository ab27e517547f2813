//! Selection along one dimension by indices.

use tubelet_engine::{DType, Result, Tensor, ops::gather::Gather};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

pub fn run(op: &Gather, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (x, indices, y) = (operand(inputs, 0)?, operand(inputs, 1)?, &outputs[0]);
    gpu.clear_bytes(y)?;
    Kernel::new("gather", include_str!("gather.wgsl"))
        .read("x", x)
        .read("indices", indices)
        .write("y", y)
        .size("size", x.shape()[op.axis])
        .size("chosen", indices.shape()[op.axis])
        .size("after", count(&indices.shape()[op.axis + 1..]))
        .size("channels", x.shape()[x.rank() - 1])
        .constant("INTEGERS", (y.dtype() == DType::I32).into())
        .launch_each(y.elements(), gpu)
}
