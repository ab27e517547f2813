//! Batch normalisation per channel: the statistics first where they are the batch's.

use tubelet_engine::{Result, Tensor, ops::batch_norm::BatchNorm};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &BatchNorm, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let channels = x.shape()[x.rank() - 1];
    let (mean, variance) = match outputs {
        [_, mean, variance] => {
            let rows = x.elements() / channels;
            Kernel::new("batch_norm_statistics", include_str!("batch_norm_statistics.wgsl"))
                .lanes(gpu.row_lanes())
                .rows("x", x)
                .write("mean", mean)
                .write("variance", variance)
                .size("rows", rows)
                .launch(channels, gpu)?;
            (mean, variance)
        }
        _ => (operand(inputs, 3)?, operand(inputs, 4)?),
    };
    Kernel::new("batch_norm", include_str!("batch_norm.wgsl"))
        .read("x", x)
        .read_optional("weight", optional(inputs, 1))
        .read_optional("bias", optional(inputs, 2))
        .read("mean", mean)
        .read("variance", variance)
        .write("y", &outputs[0])
        .size("channels", channels)
        .number("eps", op.eps)
        .launch_each(x.elements(), gpu)
}
