//! One step of stochastic gradient descent: a launch for each tensor.

use tubelet_engine::{Result, Tensor, ops::sgd::Sgd};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &Sgd, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    for (group, results) in inputs.chunks(3).zip(outputs.chunks(2)) {
        Kernel::new("sgd", include_str!("sgd.wgsl"))
            .read("param", operand(group, 0)?)
            .read("gradient", operand(group, 1)?)
            .read_optional("buffer", optional(group, 2))
            .write("new_param", &results[0])
            .write("new_buffer", &results[1])
            .number("gradient_scale", op.gradient_scale as f32)
            .number("decay", op.weight_decay as f32)
            .number("momentum", op.momentum as f32)
            .number("rest", (1.0 - op.dampening) as f32)
            .number("learning_rate", op.learning_rate as f32)
            .constant("MOMENTUM", (op.momentum != 0.0).into())
            .constant("NESTEROV", op.nesterov.into())
            .launch_each(results[0].elements(), gpu)?;
    }
    Ok(())
}
