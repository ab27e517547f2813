//! One step of stochastic gradient descent; see `sgd.cu`.

use tubelet_engine::{Result, Tensor, ops::sgd::Sgd};

use crate::{
    backend::{CudaBackend, THREADS, operand, optional, result},
    multi_tensor::{Group, launches},
    step::StepRates,
};

module!("sgd");

parameters!(Tensors {
    param: u64,
    gradient: u64,
    buffer: u64,
    new_param: u64,
    new_buffer: u64,
    count: u32,
    first_block: u32,
    wide: u32,
    unused: u32,
});

parameters!(Parameters {
    group: [Tensors; 64],
    groups: u32,
    nesterov: u32,
    gradient_scale: f32,
    decay: f32,
    momentum: f32,
    rest: f32,
    rate: f32,
    unused: u32,
    step: u64,
});

/// The operands and results of one group, in the order of `Tensors`.
fn group(cuda: &CudaBackend, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<Group<5>> {
    let name = "sgd";
    let (param, gradient) = (operand(name, inputs, 0)?, operand(name, inputs, 1)?);
    let (new_param, new_buffer) = (result(name, outputs, 0)?, result(name, outputs, 1)?);
    Group::new(cuda, name, [Some(param), Some(gradient), optional(inputs, 2), Some(new_param), Some(new_buffer)])
}

/// What differs from step to step.
pub(crate) fn rates(op: &Sgd) -> StepRates {
    StepRates { rate: op.learning_rate as f32, ..StepRates::default() }
}

pub(crate) fn run(cuda: &CudaBackend, op: &Sgd, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let pairs = inputs.chunks(3).zip(outputs.chunks(2));
    let groups = pairs.map(|(inputs, outputs)| group(cuda, inputs, outputs)).collect::<Result<Vec<_>>>()?;
    let describe = |group: &Group<5>, first_block| {
        let [param, gradient, buffer, new_param, new_buffer] = group.addresses;
        let (count, first_block) = (cuda.count("sgd", group.count)?, cuda.count("sgd", first_block)?);
        Ok(Tensors { param, gradient, buffer, new_param, new_buffer, count, first_block, wide: group.wide.into(), unused: 0 })
    };
    launches(&groups, describe, |group, groups, blocks| {
        let parameters = Parameters {
            group,
            groups,
            nesterov: op.nesterov.into(),
            gradient_scale: op.gradient_scale as f32,
            decay: op.weight_decay as f32,
            momentum: op.momentum as f32,
            rest: (1.0 - op.dampening) as f32,
            rate: rates(op).rate,
            unused: 0,
            step: cuda.step_numbers(),
        };
        cuda.launch(&MODULE, "sgd", blocks, THREADS, &parameters)
    })
}
