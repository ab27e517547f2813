//! Dropout of elements, or of whole samples (drop path), with counter-based random numbers.

use tubelet_engine::{Result, Tensor, ops::dropout::Dropout};

use crate::{
    device::Wgpu,
    kernel::{Kernel, count, operand},
};

pub fn run(op: &Dropout, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let words = |x: u64| [(x & 0xFFFF_FFFF) as usize, (x >> 32) as usize];
    Kernel::new("dropout", include_str!("dropout.wgsl"))
        .read("x", x)
        .write("y", &outputs[0])
        .size("run", count(&x.shape()[x.rank() - op.shared..]))
        .sizes("seed", &words(op.seed))
        .sizes("stream", &words(op.stream))
        .number("probability", op.probability)
        .number("kept", 1.0 / (1.0 - op.probability))
        .launch_each(x.elements(), gpu)
}
