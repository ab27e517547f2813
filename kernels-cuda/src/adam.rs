//! One step of Adam or AdamW; see `adam.cu`.

use tubelet_engine::{Result, Tensor, ops::adam::Adam};

use crate::{
    backend::{CudaBackend, THREADS, operand, optional, result},
    multi_tensor::{Group, launches},
    step::StepRates,
};

module!("adam");

parameters!(Tensors {
    param: u64,
    gradient: u64,
    m: u64,
    v: u64,
    largest: u64,
    new_param: u64,
    new_m: u64,
    new_v: u64,
    new_largest: u64,
    count: u32,
    first_block: u32,
    wide: u32,
    unused: u32,
});

parameters!(Parameters {
    group: [Tensors; 32],
    groups: u32,
    decoupled: u32,
    amsgrad: u32,
    gradient_scale: f32,
    decay: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    rate: f32,
    correction: f32,
    eps: f32,
    step: u64,
});

/// The operands and results of one group, in the order of `Tensors`.
fn group(cuda: &CudaBackend, op: &Adam, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<Group<9>> {
    let name = "adam";
    let largest = if op.amsgrad { optional(inputs, 4) } else { None };
    let operands =
        [Some(operand(name, inputs, 0)?), Some(operand(name, inputs, 1)?), optional(inputs, 2), optional(inputs, 3), largest];
    let mut all = [None; 9];
    all[..5].copy_from_slice(&operands);
    for i in 0..op.results() {
        all[5 + i] = Some(result(name, outputs, i)?);
    }
    Group::new(cuda, name, all)
}

/// What differs from step to step.
pub(crate) fn rates(op: &Adam) -> StepRates {
    let step = f64::from(op.step);
    let (correct1, correct2) = (1.0 - op.beta1.powf(step), 1.0 - op.beta2.powf(step));
    StepRates {
        rate: (op.learning_rate / correct1) as f32,
        decay: (op.learning_rate * op.weight_decay) as f32,
        correction: correct2.sqrt().recip() as f32,
    }
}

pub(crate) fn run(cuda: &CudaBackend, op: &Adam, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let pairs = inputs.chunks(5).zip(outputs.chunks(op.results()));
    let groups = pairs.map(|(inputs, outputs)| group(cuda, op, inputs, outputs)).collect::<Result<Vec<_>>>()?;
    let StepRates { rate, decay, correction } = rates(op);
    let describe = |group: &Group<9>, first_block| {
        let [param, gradient, m, v, largest, new_param, new_m, new_v, new_largest] = group.addresses;
        let (count, first_block) = (cuda.count("adam", group.count)?, cuda.count("adam", first_block)?);
        let wide = group.wide.into();
        Ok(Tensors { param, gradient, m, v, largest, new_param, new_m, new_v, new_largest, count, first_block, wide, unused: 0 })
    };
    launches(&groups, describe, |group, groups, blocks| {
        let parameters = Parameters {
            group,
            groups,
            decoupled: op.decoupled.into(),
            amsgrad: op.amsgrad.into(),
            gradient_scale: op.gradient_scale as f32,
            decay: if op.decoupled { decay } else { op.weight_decay as f32 },
            beta1: op.beta1 as f32,
            rest1: (1.0 - op.beta1) as f32,
            beta2: op.beta2 as f32,
            rest2: (1.0 - op.beta2) as f32,
            rate,
            correction,
            eps: op.eps as f32,
            step: cuda.step_numbers(),
        };
        cuda.launch(&MODULE, "adam", blocks, THREADS, &parameters)
    })
}
