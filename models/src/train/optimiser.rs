//! From gradients to new parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    Error, Result, Tensor,
    ops::{
        adam::{Adam, adam},
        binary::mul,
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

    /// Step `step` (from 1) at a learning rate; gradients are multiplied by `gradient_scale` first.
    pub fn step(&self, step: u32, learning_rate: f64, gradient_scale: f64, slots: Vec<Slot<'_>>) -> Result<()> {
        let (decayed, others): (Vec<_>, Vec<_>) = slots.into_iter().partition(|slot| decays(slot.name, slot.value));
        for (slots, decay) in [(decayed, true), (others, false)] {
            let mut launch = Vec::new();
            let mut bytes = 0;
            for slot in slots {
                bytes += slot.value.elements() * slot.value.dtype().size();
                launch.push(slot);
                if bytes >= LAUNCH {
                    self.launch(step, learning_rate, gradient_scale, decay, std::mem::take(&mut launch))?;
                    bytes = 0;
                }
            }
            self.launch(step, learning_rate, gradient_scale, decay, launch)?;
        }
        Ok(())
    }

    fn launch(&self, step: u32, learning_rate: f64, gradient_scale: f64, decay: bool, slots: Vec<Slot<'_>>) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let part = |weight_decay: f64| if decay { weight_decay } else { 0.0 };
        match *self {
            Optimiser::Sgd { momentum, weight_decay, nesterov } => {
                let weight_decay = part(weight_decay);
                let op = Sgd { learning_rate, momentum, dampening: 0.0, weight_decay, nesterov, gradient_scale };
                let groups: Vec<_> = slots.iter().map(|s| [Some(&*s.value), Some(&s.gradient), s.memory.first()]).collect();
                let results = sgd(op, &groups)?;
                for (slot, [value, velocity]) in slots.into_iter().zip(results) {
                    *slot.value = value;
                    *slot.memory = if momentum > 0.0 { vec![velocity] } else { Vec::new() };
                }
            }
            Optimiser::Adam { betas: [beta1, beta2], eps, weight_decay }
            | Optimiser::AdamW { betas: [beta1, beta2], eps, weight_decay } => {
                let weight_decay = part(weight_decay);
                let (decoupled, amsgrad) = (matches!(self, Optimiser::AdamW { .. }), false);
                let op = Adam { learning_rate, beta1, beta2, eps, weight_decay, decoupled, amsgrad, step, gradient_scale };
                let memory = |s: &Slot<'_>, i: usize| s.memory.get(i).cloned();
                let moments: Vec<_> = slots.iter().map(|s| [memory(s, 0), memory(s, 1)]).collect();
                let groups: Vec<_> = slots
                    .iter()
                    .zip(&moments)
                    .map(|(s, [m, v])| [Some(&*s.value), Some(&s.gradient), m.as_ref(), v.as_ref(), None])
                    .collect();
                let results = adam(op, &groups)?;
                for (slot, [value, m, v, _]) in slots.into_iter().zip(results) {
                    *slot.value = value;
                    *slot.memory = vec![m, v];
                }
            }
        }
        Ok(())
    }
}

/// Weights decay; biases, scales, tokens and positions do not, as in every one of the four systems' published codes.
fn decays(name: &str, value: &Tensor) -> bool {
    let matrix = value.shape().iter().filter(|&&n| n > 1).count() >= 2;
    matrix && !["pos_embed", "cls_", "global_token"].iter().any(|part| name.contains(part))
}

/// `√Σ g²` over all gradients.
///
/// # Errors
/// An [`Error::Invalid`] where it is not a finite number: some operation overflowed.
pub fn global_norm<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let mut squares = 0.0;
    for gradient in gradients {
        let axes: Vec<usize> = (0..gradient.rank()).collect();
        squares += reduce(Reduction::Sum, &mul(gradient, gradient)?, &axes)?.to_f64_vec()?[0];
    }
    let norm: f64 = squares.sqrt();
    if norm.is_finite() { Ok(norm) } else { Err(Error::invalid("gradient", format!("its norm is {norm}"))) }
}

/// The factor that clips a norm to `limit`: PyTorch's `min(1, limit/(norm + 1e-6))`.
pub fn clip_factor(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

/// Exponential moving averages of parameters: `average ← decay·average + (1 − decay)·value`.
pub fn moving_average(averages: &mut BTreeMap<String, Tensor>, values: &BTreeMap<String, Tensor>, decay: f64) -> Result<()> {
    for (name, value) in values {
        let next = match averages.get(name) {
            None => value.clone(),
            Some(average) => {
                let scalar = |x: f64| Tensor::full(value.device(), value.dtype(), &[], x as f32);
                tubelet_engine::ops::binary::add(&mul(average, &scalar(decay)?)?, &mul(value, &scalar(1.0 - decay)?)?)?
            }
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
            optimiser.step(1, 0.01, 1.0, vec![slot]).unwrap();
            // One rounding to f32 near 2, and eps beside a gradient of 0.2.
            assert!(value.to_f64_vec().unwrap().iter().all(|x| (x - expected).abs() < 3e-7), "{optimiser:?} {value:?}");
        }
    }
}
