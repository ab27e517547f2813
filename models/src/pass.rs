//! One forward pass: what is looked at on the way, and what training does differently from inference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tubelet_engine::{
    DType, Result, Tensor,
    ops::{
        batch_norm::{batch_norm, batch_norm_training},
        binary::{add, mul},
        dropout::{Dropout, dropout},
    },
};

use crate::rollout::Step;

/// What a training pass drops at random; everything 0 by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Regularisation {
    /// Probability with which the last layer's branches are left out for a sample; it grows linearly from 0 at the first layer (stochastic
    /// droplayer: ViViT, UniFormerV2's backbone).
    pub drop_path: f32,
    /// Likewise for UniFormerV2's global blocks.
    pub global_drop_path: f32,
    /// Of what attention and MLP add to the stream, and of the MLP's hidden values (VidTr: 0.1).
    pub dropout: f32,
    /// Of the probabilities of attention (VidTr: 0.1), but for those that topK_std pooling chooses by.
    pub attention_dropout: f32,
    /// Of the hidden values in UniFormerV2's global blocks (0.5).
    pub global_dropout: f32,
    /// Of what the classifier reads (VidTr and UniFormerV2: 0.5).
    pub head_dropout: f32,
}

impl Regularisation {
    /// Every probability with its name.
    pub fn probabilities(&self) -> [(&'static str, f32); 6] {
        [
            ("drop_path", self.drop_path),
            ("global_drop_path", self.global_drop_path),
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("global_dropout", self.global_dropout),
            ("head_dropout", self.head_dropout),
        ]
    }
}

/// Where in a model a branch is: the layer, counted from 0, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// The layer.
    pub layer: usize,
    /// Of how many.
    pub of: usize,
}

struct Training {
    regularisation: Regularisation,
    seed: u64,
    /// The stream of the next draw.
    stream: u64,
    statistics: BTreeMap<String, Tensor>,
}

/// One forward pass of a model.
///
/// In inference nothing is dropped and batch norms use their running statistics. A watched pass also collects named intermediate results;
/// where nobody watches, a tap costs a branch.
#[derive(Default)]
pub struct Pass {
    collected: Option<BTreeMap<String, Tensor>>,
    trail: Option<Vec<Step>>,
    training: Option<Training>,
    whole: bool,
}

/// Streams of one step: more than any model draws.
pub(crate) const STREAMS: u64 = 1 << 20;

impl Pass {
    /// Plain inference.
    pub fn inference() -> Self {
        Pass::default()
    }

    /// Inference that collects every intermediate result.
    pub fn watched() -> Self {
        Pass { collected: Some(BTreeMap::new()), ..Pass::default() }
    }

    /// Inference that keeps queries and keys, for a [roll-out](crate::rollout).
    pub fn followed() -> Self {
        Pass { trail: Some(Vec::new()), ..Pass::default() }
    }

    /// Training step `step` under `seed`: the random draws depend on these two alone.
    pub fn training(regularisation: Regularisation, seed: u64, step: u64) -> Self {
        let stream = step.wrapping_mul(STREAMS);
        let training = Training { regularisation, seed, stream, statistics: BTreeMap::new() };
        Pass { training: Some(training), ..Pass::default() }
    }

    /// The same, and it collects every intermediate result.
    pub fn watching(self) -> Self {
        Pass { collected: Some(BTreeMap::new()), ..self }
    }

    /// The same, and it computes what nobody reads: see [`Pass::wants_all`].
    pub fn whole(self) -> Self {
        Pass { whole: true, ..self }
    }

    /// A pass of the same kind whose draws and statistics are forgotten, to compute something twice.
    pub fn aside(&self) -> Pass {
        let training = self.training.as_ref().map(|training| Training { statistics: BTreeMap::new(), ..*training });
        Pass { training, whole: self.wants_all(), ..Pass::default() }
    }

    /// Whether every token of the last layer is wanted, as by those who look at intermediate results and by the papers, who count all. Where a class
    /// token alone is read, plain passes leave the others out of what the last layer does after its attention.
    pub fn wants_all(&self) -> bool {
        self.whole || self.is_watched() || self.is_followed()
    }

    /// Whether intermediate results are collected.
    pub fn is_watched(&self) -> bool {
        self.collected.is_some()
    }

    /// Whether the steps from tokens to tokens are kept.
    pub fn is_followed(&self) -> bool {
        self.trail.is_some()
    }

    /// Records `value()` as `name`.
    pub fn record(&mut self, name: impl FnOnce() -> String, value: impl FnOnce() -> Result<Tensor>) -> Result<()> {
        if let Some(collected) = &mut self.collected {
            collected.insert(name(), value()?);
        }
        Ok(())
    }

    /// Notes how tokens became tokens, if somebody follows.
    pub fn follow(&mut self, step: impl FnOnce() -> Result<Step>) -> Result<()> {
        if let Some(trail) = &mut self.trail {
            trail.push(step()?);
        }
        Ok(())
    }

    /// The steps that were followed.
    pub fn into_trail(self) -> Vec<Step> {
        self.trail.unwrap_or_default()
    }

    /// What was collected.
    pub fn into_map(self) -> BTreeMap<String, Tensor> {
        self.collected.unwrap_or_default()
    }

    /// The running statistics after a training pass, by parameter name.
    pub fn take_statistics(&mut self) -> BTreeMap<String, Tensor> {
        self.training.as_mut().map(|training| std::mem::take(&mut training.statistics)).unwrap_or_default()
    }

    /// `x + branch`, in one kernel where nothing is dropped: `branch` is told what to add its result to, if it shall.
    pub fn branch<F>(&mut self, x: &Tensor, depth: Depth, branch: F) -> Result<Tensor>
    where
        F: FnOnce(&mut Pass, Option<&Tensor>) -> Result<Tensor>,
    {
        let rate = |r: &Regularisation| r.drop_path;
        self.branch_with(x, rate, depth, branch)
    }

    /// As [`Pass::branch`] for UniFormerV2's global blocks.
    pub fn global_branch<F>(&mut self, x: &Tensor, depth: Depth, branch: F) -> Result<Tensor>
    where
        F: FnOnce(&mut Pass, Option<&Tensor>) -> Result<Tensor>,
    {
        let rate = |r: &Regularisation| r.global_drop_path;
        self.branch_with(x, rate, depth, branch)
    }

    fn branch_with<F>(&mut self, x: &Tensor, rate: fn(&Regularisation) -> f32, depth: Depth, branch: F) -> Result<Tensor>
    where
        F: FnOnce(&mut Pass, Option<&Tensor>) -> Result<Tensor>,
    {
        let Some(regularisation) = self.training.as_ref().map(|training| training.regularisation) else {
            return branch(self, Some(x));
        };
        let drop_path = rate(&regularisation) * depth.layer as f32 / depth.of.saturating_sub(1).max(1) as f32;
        if drop_path == 0.0 && regularisation.dropout == 0.0 {
            return branch(self, Some(x));
        }
        let y = branch(self, None)?;
        let y = self.drop(regularisation.dropout, 0, &y)?;
        add(x, &self.drop(drop_path, x.rank().saturating_sub(1), &y)?)
    }

    /// `x` with some of its elements dropped, if `rate` says so.
    pub fn dropout(&mut self, rate: fn(&Regularisation) -> f32, x: &Tensor) -> Result<Tensor> {
        let probability = self.training.as_ref().map_or(0.0, |training| rate(&training.regularisation));
        self.drop(probability, 0, x)
    }

    /// Whether this pass drops what `rate` is of.
    pub fn drops(&self, rate: fn(&Regularisation) -> f32) -> bool {
        self.training.as_ref().is_some_and(|training| rate(&training.regularisation) > 0.0)
    }

    fn drop(&mut self, probability: f32, shared: usize, x: &Tensor) -> Result<Tensor> {
        match &mut self.training {
            Some(training) if probability > 0.0 => {
                let op = Dropout { probability, seed: training.seed, stream: training.stream, shared };
                training.stream += 1;
                dropout(op, x)
            }
            _ => Ok(x.clone()),
        }
    }

    /// A batch norm with the parameters `name.mean` and `name.var`. In training it normalises with the batch's statistics, and the running ones
    /// take a tenth of them (PyTorch's momentum), the unbiased variance.
    pub fn batch_norm(
        &mut self,
        name: &str,
        eps: f32,
        x: &Tensor,
        [gamma, beta]: [&Tensor; 2],
        [mean, var]: [&Tensor; 2],
    ) -> Result<Tensor> {
        let Some(training) = &mut self.training else {
            return batch_norm(eps, x, Some(gamma), Some(beta), [mean, var]);
        };
        let [y, batch_mean, batch_var] = batch_norm_training(eps, x, Some(gamma), Some(beta))?;
        let n = (x.elements() / x.shape()[x.rank() - 1].max(1)) as f32;
        let scalar = |value: f32| Tensor::full(x.device(), batch_mean.dtype(), &[1], value);
        let wide: DType = batch_mean.dtype();
        let mut update = |part: &str, old: &Tensor, new: &Tensor, factor: f32| -> Result<()> {
            let old = mul(&old.detach().cast(wide)?, &scalar(0.9)?)?;
            let new = add(&old, &mul(&new.detach(), &scalar(0.1 * factor)?)?)?;
            training.statistics.insert(format!("{name}.{part}"), new);
            Ok(())
        };
        update("mean", mean, &batch_mean, 1.0)?;
        update("var", var, &batch_var, if n > 1.0 { n / (n - 1.0) } else { 1.0 })?;
        Ok(y)
    }
}
