//! One step of Adam or AdamW: a launch for each tensor.

use tubelet_engine::{Result, Tensor, ops::adam::Adam};

use crate::{
    device::Wgpu,
    kernel::{Kernel, operand, optional},
};

pub fn run(op: &Adam, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let step = f64::from(op.step);
    let (correct1, correct2) = (1.0 - op.beta1.powf(step), 1.0 - op.beta2.powf(step));
    let decay = if op.decoupled { op.learning_rate * op.weight_decay } else { op.weight_decay };
    for (group, results) in inputs.chunks(5).zip(outputs.chunks(op.results())) {
        Kernel::new("adam", include_str!("adam.wgsl"))
            .read("param", operand(group, 0)?)
            .read("gradient", operand(group, 1)?)
            .read_optional("m", optional(group, 2))
            .read_optional("v", optional(group, 3))
            .read_optional("largest", if op.amsgrad { optional(group, 4) } else { None })
            .write("new_param", &results[0])
            .write("new_m", &results[1])
            .write("new_v", &results[2])
            .write_optional("new_largest", results.get(3))
            .number("gradient_scale", op.gradient_scale as f32)
            .number("decay", decay as f32)
            .number("beta1", op.beta1 as f32)
            .number("rest1", (1.0 - op.beta1) as f32)
            .number("beta2", op.beta2 as f32)
            .number("rest2", (1.0 - op.beta2) as f32)
            .number("rate", (op.learning_rate / correct1) as f32)
            .number("correction", correct2.sqrt().recip() as f32)
            .number("eps", op.eps as f32)
            .constant("DECOUPLED", op.decoupled.into())
            .constant("AMSGRAD", op.amsgrad.into())
            .launch_each(results[0].elements(), gpu)?;
    }
    Ok(())
}
