//! Copy of a view into row-major order, with conversion of the element type.

use tubelet_engine::{DType, Result, Tensor, ops::copy::Copy};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand},
};

pub fn run(op: &Copy, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let (x, y) = (operand(inputs, 0)?, &outputs[0]);
    gpu.clear_bytes(y)?;
    let integers = x.dtype() == DType::I32 && op.dtype == DType::I32;
    Kernel::new("copy", include_str!("copy.wgsl"))
        .read("x", x)
        .write("y", y)
        .constant("INTEGERS", integers.into())
        .launch_each(y.elements(), gpu)
}
