//! From gradients to new parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    Error, Op, Result, Tensor,
    ops::{
        adam::{Adam, adam},
        binary::{add, mul},
        reduce::{Reduction, reduce},
        sgd::{Sgd, sgd},
    },
};

/// The optimiser of a recipe. The learning rate is the recipe's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimiser {
    /// Stochastic gradient descent with momentum (ViViT, VidTr).
    Sgd {
        /// Of the velocity.
        momentum: f64,
        /// Added to the gradient, times the parameter.
        #[serde(default)]
        weight_decay: f64,
        /// Whether to look ahead.
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam, its weight decay added to the gradient (TubeViT).
    Adam {
        /// Of the two moments.
        #[serde(default = "betas")]
        betas: [f64; 2],
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// Added to the gradient, times the parameter.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (UniFormerV2).
    AdamW {
        /// Of the two moments.
        #[serde(default = "betas")]
        betas: [f64; 2],
        /// Added to the root of the second moment.
        #[serde(default = "eps")]
        eps: f64,
        /// Per step and learning rate.
        #[serde(default)]
        weight_decay: f64,
    },
}

fn betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn eps() -> f64 {
    1e-8
}

/// A parameter to be changed: its value, its gradient, and the optimiser's memory of it (empty before the first step).
pub struct Slot<'a> {
    /// As models call it.
    pub name: &'a str,
    /// f32.
    pub value: &'a mut Tensor,
    /// f32.
    pub gradient: Tensor,
    /// Momentum, or first and second moment.
    pub memory: &'a mut Vec<Tensor>,
}

/// What becomes of a tensor of the state: given the old one and what it shall be, it gives the one that is kept.
pub type Settle<'a> = dyn FnMut(&Tensor, Tensor) -> Result<Tensor> + 'a;

/// Eagerly, new tensors take the place of old ones.
pub fn replace(_: &Tensor, new: Tensor) -> Result<Tensor> {
    Ok(new)
}

/// Bytes of parameters that one launch updates: old and new values and moments live side by side for so many only.
const LAUNCH: usize = 16 << 20;

impl Optimiser {
    /// An error where a number makes no sense.
    pub fn validate(&self) -> Result<()> {
        let fits = match *self {
            Optimiser::Sgd { momentum, weight_decay, .. } => (0.0..1.0).contains(&momentum) && weight_decay >= 0.0,
            Optimiser::Adam { betas, eps, weight_decay } | Optimiser::AdamW { betas, eps, weight_decay } => {
                betas.iter().all(|beta| (0.0..1.0).contains(beta)) && eps > 0.0 && weight_decay >= 0.0
            }
        };
        if fits { Ok(()) } else { Err(Error::invalid("optimiser", format!("{self:?}"))) }
    }

    /// Tensors of memory for each parameter, after the first step.
    pub fn moments(&self) -> usize {
        match *self {
            Optimiser::Sgd { momentum, .. } => usize::from(momentum > 0.0),
            Optimiser::Adam { .. } | Optimiser::AdamW { .. } => 2,
        }
    }

    /// Step `step` (from 1) as an operation, for parameters that decay or do not.
    pub fn operation(&self, step: u32, learning_rate: f64, gradient_scale: f64, decay: bool) -> Op {
        let part = |weight_decay: f64| if decay { weight_decay } else { 0.0 };
        match *self {
            Optimiser::Sgd { momentum, weight_decay, nesterov } => {
                let weight_decay = part(weight_decay);
                Sgd { learning_rate, momentum, dampening: 0.0, weight_decay, nesterov, gradient_scale }.into()
            }
            Optimiser::Adam { betas: [beta1, beta2], eps, weight_decay }
            | Optimiser::AdamW { betas: [beta1, beta2], eps, weight_decay } => {
                let weight_decay = part(weight_decay);
                let (decoupled, amsgrad) = (matches!(self, Optimiser::AdamW { .. }), false);
                Adam { learning_rate, beta1, beta2, eps, weight_decay, decoupled, amsgrad, step, gradient_scale }.into()
            }
        }
    }

    /// Step `step` (from 1) at a learning rate; gradients are multiplied by `gradient_scale` first.
    pub fn step(
        &self,
        step: u32,
        learning_rate: f64,
        gradient_scale: f64,
        slots: Vec<Slot<'_>>,
        settle: &mut Settle<'_>,
    ) -> Result<()> {
        let (decayed, others): (Vec<_>, Vec<_>) = slots.into_iter().partition(|slot| decays(slot.name, slot.value));
        for (slots, decay) in [(decayed, true), (others, false)] {
            let op = self.operation(step, learning_rate, gradient_scale, decay);
            let mut launch = Vec::new();
            let mut bytes = 0;
            for slot in slots {
                bytes += slot.value.elements() * slot.value.dtype().size();
                launch.push(slot);
                if bytes >= LAUNCH {
                    launch_on(&op, std::mem::take(&mut launch), settle)?;
                    bytes = 0;
                }
            }
            launch_on(&op, launch, settle)?;
        }
        Ok(())
    }
}

/// One launch of an optimiser's operation on some parameters.
fn launch_on(op: &Op, slots: Vec<Slot<'_>>, settle: &mut Settle<'_>) -> Result<()> {
    if slots.is_empty() {
        return Ok(());
    }
    match op {
        Op::Sgd(op) => {
            let groups: Vec<_> = slots.iter().map(|s| [Some(&*s.value), Some(&s.gradient), s.memory.first()]).collect();
            let results = sgd(*op, &groups)?;
            for (slot, [value, velocity]) in slots.into_iter().zip(results) {
                let memory = if op.momentum > 0.0 { vec![velocity] } else { Vec::new() };
                slot.settle(value, memory, settle)?;
            }
        }
        Op::Adam(op) => {
            let groups: Vec<_> =
                slots.iter().map(|s| [Some(&*s.value), Some(&s.gradient), s.memory.first(), s.memory.get(1), None]).collect();
            let results = adam(*op, &groups)?;
            for (slot, [value, m, v, _]) in slots.into_iter().zip(results) {
                slot.settle(value, vec![m, v], settle)?;
            }
        }
        other => return Err(Error::invalid(other.name(), "it is no optimiser")),
    }
    Ok(())
}

impl Slot<'_> {
    /// Takes what a step has made of it.
    fn settle(self, value: Tensor, memory: Vec<Tensor>, settle: &mut Settle<'_>) -> Result<()> {
        *self.value = settle(self.value, value)?;
        let mut old = std::mem::take(self.memory).into_iter();
        *self.memory =
            memory.into_iter().map(|new| old.next().map_or(Ok(new.clone()), |old| settle(&old, new))).collect::<Result<_>>()?;
        Ok(())
    }
}

/// Weights decay; biases, scales, tokens and positions do not, as in every one of the four systems' published codes.
fn decays(name: &str, value: &Tensor) -> bool {
    let matrix = value.shape().iter().filter(|&&n| n > 1).count() >= 2;
    matrix && !["pos_embed", "cls_", "global_token"].iter().any(|part| name.contains(part))
}

/// `Σ g²` of each gradient.
pub fn squares<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<Vec<Tensor>> {
    let square = |gradient: &Tensor| {
        let axes: Vec<usize> = (0..gradient.rank()).collect();
        reduce(Reduction::Squares, gradient, &axes)
    };
    gradients.into_iter().map(square).collect()
}

/// `√Σ g²` over all gradients.
///
/// # Errors
/// As [`finite`].
pub fn global_norm<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    for square in squares(gradients)? {
        sum += square.to_f64_vec()?[0];
    }
    finite("gradient", "its norm", sum.sqrt())
}

/// `value`.
///
/// # Errors
/// An [`Error::Invalid`] where it is not a finite number: some operation overflowed.
pub fn finite(of: &str, what: &str, value: f64) -> Result<f64> {
    if value.is_finite() { Ok(value) } else { Err(Error::invalid(of, format!("{what} is {value}"))) }
}

/// The factor that clips a norm to `limit`: PyTorch's `min(1, limit/(norm + 1e-6))`.
pub fn clip_factor(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

/// Exponential moving averages of parameters, `average ← decay·average + rest·value`, of which the first is the value itself.
pub fn moving_average(
    averages: &mut BTreeMap<String, Tensor>,
    values: &BTreeMap<String, Tensor>,
    [decay, rest]: &[Tensor; 2],
    settle: &mut Settle<'_>,
) -> Result<()> {
    for (name, value) in values {
        let next = match averages.get(name) {
            None => value.clone(),
            Some(average) => settle(average, add(&mul(average, decay)?, &mul(value, rest)?)?)?,
        };
        averages.insert(name.clone(), next);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tubelet_engine::{DType, Device};

    use super::*;

    /// Without a gradient nothing but the decay is left. Coupled, it is a gradient, whose size Adam divides out; decoupled, it shrinks the weight.
    #[test]
    fn weight_decay_is_a_gradient_in_adam_and_a_factor_in_adamw() {
        let device = Device::reference();
        let (betas, eps, weight_decay) = ([0.9, 0.999], 1e-8, 0.1);
        for (optimiser, expected) in [
            (Optimiser::Adam { betas, eps, weight_decay }, 2.0 - 0.01),
            (Optimiser::AdamW { betas, eps, weight_decay }, 2.0 * (1.0 - 0.01 * 0.1)),
        ] {
            let mut value = Tensor::full(&device, DType::F32, &[2, 2], 2.0).unwrap();
            let gradient = Tensor::zeros(&device, DType::F32, &[2, 2]).unwrap();
            let slot = Slot { name: "a.weight", value: &mut value, gradient, memory: &mut Vec::new() };
            optimiser.step(1, 0.01, 1.0, vec![slot], &mut replace).unwrap();
            // One rounding to f32 near 2, and eps beside a gradient of 0.2.
            assert!(value.to_f64_vec().unwrap().iter().all(|x| (x - expected).abs() < 3e-7), "{optimiser:?} {value:?}");
        }
    }
}
