//! Gradient of batch normalisation: the parameters' by channels, then the operand's by elements.

use tubelet_engine::{DType, Result, Tensor, ops::batch_norm_backward::BatchNormBackward};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &BatchNormBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let [x, mean, variance, gradient] = [operand(inputs, 0)?, operand(inputs, 2)?, operand(inputs, 3)?, operand(inputs, 4)?];
    let channels = x.shape()[x.rank() - 1];
    let rows = x.elements() / channels;
    let sums = Tensor::empty(x.device(), DType::F32, &[2, channels])?;
    Kernel::new("batch_norm_backward_columns", include_str!("batch_norm_backward_columns.wgsl"))
        .lanes(gpu.row_lanes())
        .rows("x", x)
        .rows("gradient", gradient)
        .read("mean", mean)
        .read("variance", variance)
        .write("dweight", &outputs[1])
        .write("dbias", &outputs[2])
        .write("sums", &sums)
        .size("rows", rows)
        .size("channels", channels)
        .number("eps", op.eps)
        .launch(channels, gpu)?;
    Kernel::new("batch_norm_backward", include_str!("batch_norm_backward.wgsl"))
        .read("x", x)
        .read("gradient", gradient)
        .read("mean", mean)
        .read("variance", variance)
        .read("sums", &sums)
        .read_optional("weight", optional(inputs, 1))
        .write("dx", &outputs[0])
        .size("rows", rows)
        .size("channels", channels)
        .number("eps", op.eps)
        .constant("BATCH", op.batch.into())
        .launch_each(x.elements(), gpu)
}
