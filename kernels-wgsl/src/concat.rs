//! Concatenation along one dimension: a launch for each operand.

use tubelet_engine::{DType, Result, Tensor, ops::concat::Concat};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count},
};

pub fn run(op: &Concat, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let y = &outputs[0];
    gpu.clear_bytes(y)?;
    let mut start = 0;
    for &x in inputs.iter().flatten() {
        let size = x.shape()[op.axis];
        Kernel::new("concat", include_str!("concat.wgsl"))
            .read("x", x)
            .write("y", y)
            .size("size", size)
            .size("start", start)
            .size("total", y.shape()[op.axis])
            .size("inner", count(&y.shape()[op.axis + 1..]))
            .constant("INTEGERS", (y.dtype() == DType::I32).into())
            .launch_each(x.elements(), gpu)?;
        start += size;
    }
    Ok(())
}
