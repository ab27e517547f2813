//! One training step after another.

mod evaluate;
mod keep;

use std::collections::BTreeMap;

use tubelet_autograd::{backward_from, detect_anomalies};
use tubelet_engine::{
    DType, Device, Error, Result, Tensor,
    ops::{
        binary::mul,
        binary_cross_entropy::{BinaryCrossEntropy, binary_cross_entropy},
        cross_entropy::{CrossEntropy, LossReduction, cross_entropy},
    },
};

use super::{
    loader::Batch,
    metrics::Accuracy,
    optimiser::{Slot, clip_factor, global_norm, moving_average},
    parallel::{Alone, Group, agree, sums},
    recipe::Recipe,
    store::{Store, Variables},
};
use crate::{Pass, params::Params, registry::Config};
pub use evaluate::Evaluation;

/// What one step did.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepReport {
    /// Mean over the batch, before the step.
    pub loss: f64,
    /// Right predictions on the batch, before the step.
    pub accuracy: Accuracy,
    /// Norm of all gradients, before clipping.
    pub norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
}

/// A model, its optimiser and where they stand.
pub struct Trainer {
    recipe: Recipe,
    config: Config,
    device: Device,
    dtype: DType,
    store: Store,
    memory: BTreeMap<String, Vec<Tensor>>,
    average: BTreeMap<String, Tensor>,
    step: u64,
    goals: Vec<Goal>,
}

/// What is learned from a data set.
#[derive(Clone, Copy, Debug)]
struct Goal {
    head: usize,
    multi_label: bool,
}

/// The results of the forward and backward passes over a batch.
struct Gradients {
    report: StepReport,
    sums: BTreeMap<String, Tensor>,
    statistics: BTreeMap<String, Tensor>,
}

/// The results of a forward pass.
struct Forward {
    variables: Variables,
    loss: Tensor,
    accuracy: Accuracy,
    statistics: BTreeMap<String, Tensor>,
}

impl Trainer {
    /// A new run. The parameters are those of `params`, which is f32 on the device: random ones, a checkpoint's, or an image model's.
    ///
    /// # Errors
    /// Of building the model.
    pub fn new(recipe: Recipe, device: &Device, params: Params<'_>) -> Result<Self> {
        let (config, dtype) = (recipe.config()?, recipe.dtype()?);
        let store = Store::collect(&config, params, &recipe.freeze)?;
        let goal = |(name, multi_label): (Option<&str>, bool)| {
            let missing = |name: &str| Error::invalid("data", format!("the model has no head for the set {name:?}"));
            let head = name.map_or(Ok(0), |name| config.head(name).ok_or_else(|| missing(name)))?;
            Ok(Goal { head, multi_label })
        };
        let goals = recipe.data.sets().into_iter().map(goal).collect::<Result<_>>()?;
        let (memory, average) = (BTreeMap::new(), BTreeMap::new());
        Ok(Trainer { recipe, config, device: device.clone(), dtype, store, memory, average, step: 0, goals })
    }

    /// With random parameters from the recipe's seed.
    pub fn random(recipe: Recipe, device: &Device) -> Result<Self> {
        let params = Params::random(device, DType::F32, recipe.seed);
        Trainer::new(recipe, device, params)
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The parameters.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The classes of each data set's head.
    pub fn classes(&self) -> Result<Vec<usize>> {
        let heads = self.store.training_model(&self.config, &self.device, self.dtype)?.0.heads();
        self.goals.iter().map(|goal| Ok(heads.get(goal.head).copied().unwrap_or(0))).collect()
    }

    /// Bytes alive on the device between the forward and the backward pass of a batch's first part.
    ///
    /// # Errors
    /// What operations say.
    pub fn kept(&self, batch: &Batch) -> Result<u64> {
        let forward = self.forward(&Alone, (0, batch), 0, &BTreeMap::new())?;
        let live = self.device.memory().live as u64;
        drop(forward);
        Ok(live)
    }

    /// The parameters that evaluation uses: the moving average, if there is one.
    pub fn averaged(&self) -> Store {
        self.store.with_values(&self.average)
    }

    /// One optimiser step.
    ///
    /// # Errors
    /// What operations say; and where the loss or a gradient is not a finite number, an error that names the operation it first came from.
    pub fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        self.step_with(&Alone, std::slice::from_ref(batch))
    }

    /// Parts that each process computes its share of a batch in, so that there are as many in all as the recipe says, or one for each process.
    pub fn parts(&self, group: &dyn Group) -> usize {
        self.recipe.accumulate.div_ceil(group.size())
    }

    /// One optimiser step of several processes, of which each has its share of the batch: the clips of each data set. All end with the same parameters: gradients are summed over
    /// the processes before their norm is taken and clipped.
    ///
    /// # Errors
    /// As [`Trainer::step`], on every process when on one.
    pub fn step_with(&mut self, group: &dyn Group, batches: &[Batch]) -> Result<StepReport> {
        let found = self.checked(group, batches)?;
        let report = self.apply(found);
        // One that has no memory left must not leave the others waiting.
        agree(group, &self.device, report)
    }

    /// The optimiser's step with the gradients of the whole batch.
    fn apply(&mut self, found: Gradients) -> Result<StepReport> {
        let Gradients { mut report, sums, statistics } = found;
        let part = self.recipe.schedule.part(self.step, self.recipe.steps);
        report.learning_rate = self.recipe.learning_rate * part;
        let scale = clip_factor(report.norm, self.recipe.clip_norm);
        self.store.values.extend(statistics);
        self.step += 1;
        let mut slots = Vec::new();
        for name in sums.keys() {
            self.memory.entry(name.clone()).or_default();
        }
        let mut gradients = sums;
        let mut memory: BTreeMap<&str, &mut Vec<Tensor>> = self.memory.iter_mut().map(|(name, m)| (name.as_str(), m)).collect();
        for (name, value) in &mut self.store.values {
            if let (Some(gradient), Some(memory)) = (gradients.remove(name), memory.remove(name.as_str())) {
                slots.push(Slot { name, value, gradient, memory });
            }
        }
        self.recipe.optimiser.step(self.step as u32, report.learning_rate, scale, slots)?;
        if let Some(decay) = self.recipe.average {
            let values =
                self.store.trainable().filter_map(|name| Some((name.clone(), self.store.values.get(name)?.clone()))).collect();
            // The average is no better than the last values until there is something to average.
            moving_average(&mut self.average, &values, decay.min(self.step as f64 / (self.step + 10) as f64))?;
        }
        Ok(report)
    }

    /// The gradients of the whole batch, all of them finite.
    fn checked(&self, group: &dyn Group, batches: &[Batch]) -> Result<Gradients> {
        let found = self.gradients(group, batches);
        let found = self.total(group, found).and_then(|mut found| {
            found.report.norm = global_norm(found.sums.values())?;
            if found.report.loss.is_finite() {
                Ok(found)
            } else {
                Err(Error::invalid("loss", format!("it is {}", found.report.loss)))
            }
        });
        found.map_err(|error| {
            // Once more, looking: which operation was the first?
            let named = detect_anomalies(|| self.gradients(group, batches)).err().unwrap_or(error);
            Error::invalid(format!("step {}", self.step + 1), named.to_string())
        })
    }

    /// The sums over all processes.
    fn total(&self, group: &dyn Group, found: Result<Gradients>) -> Result<Gradients> {
        let mut found = agree(group, &self.device, found)?;
        if group.size() == 1 {
            return Ok(found);
        }
        // Maps are sorted by name: the order is the same everywhere.
        let mut tensors: Vec<Tensor> = found.sums.values().chain(found.statistics.values()).cloned().collect();
        group.all_reduce(&mut tensors)?;
        let share = Tensor::full(&self.device, DType::F32, &[], 1.0 / group.size() as f32)?;
        let mut tensors = tensors.into_iter();
        found.sums.values_mut().zip(&mut tensors).for_each(|(own, sum)| *own = sum);
        // Each process's running statistics took a tenth of its own batch's; their mean takes a tenth of the mean.
        for (own, sum) in found.statistics.values_mut().zip(&mut tensors) {
            *own = mul(&sum, &share)?;
        }
        let StepReport { loss, accuracy, .. } = found.report;
        let counts = [accuracy.top1, accuracy.top5, accuracy.total].map(|n| n as f32);
        let [loss, top1, top5, total] = sums(group, &self.device, [loss as f32, counts[0], counts[1], counts[2]])?;
        let [top1, top5, total] = [top1, top5, total].map(|n| n as usize);
        found.report = StepReport { loss: f64::from(loss), accuracy: Accuracy { top1, top5, total }, ..found.report };
        Ok(found)
    }

    /// Forward and backward passes over the parts of this process's share, of one data set after another. The loss is the mean over all clips, each with
    /// the head of its set.
    fn gradients(&self, group: &dyn Group, batches: &[Batch]) -> Result<Gradients> {
        if batches.len() != self.goals.len() {
            return Err(Error::invalid("batch", format!("{} batches for {} data sets", batches.len(), self.goals.len())));
        }
        let mut found = Gradients { report: StepReport::default(), sums: BTreeMap::new(), statistics: BTreeMap::new() };
        let clips: usize = batches.iter().map(|batch| batch.targets.len()).sum();
        let all = self.parts(group) * group.size();
        for (set, batch) in batches.iter().enumerate() {
            let share = batch.targets.len() as f64 / clips as f64 / all as f64;
            for i in 0..self.parts(group) {
                let Forward { variables, loss, accuracy, statistics } =
                    self.forward(group, (set, batch), i, &found.statistics)?;
                found.statistics.extend(statistics);
                found.report.loss += f64::from(loss.to_vec::<f32>()?[0]) * share;
                found.report.accuracy.top1 += accuracy.top1;
                found.report.accuracy.top5 += accuracy.top5;
                found.report.accuracy.total += accuracy.total;
                let share = Tensor::full(&self.device, DType::F32, &[], share as f32)?;
                variables.accumulate(&mut backward_from(&[(&loss, &share)])?, &mut found.sums)?;
            }
        }
        Ok(found)
    }

    /// The forward pass over part `i` of a share, with running statistics as the parts before have left them.
    fn forward(
        &self,
        group: &dyn Group,
        (set, batch): (usize, &Batch),
        i: usize,
        statistics: &BTreeMap<String, Tensor>,
    ) -> Result<Forward> {
        let (parts, goal) = (self.parts(group), self.goals[set]);
        let part = batch.targets.len() / parts;
        let bytes = batch.video.len() / batch.targets.len().max(1);
        let rows = i * part..(i + 1) * part;
        let store = self.store.with_values(statistics);
        let (model, variables) = store.training_model(&self.config, &self.device, self.dtype)?;
        let [t, h, w] = batch.clip;
        let clips = &batch.video[rows.start * bytes..rows.end * bytes];
        let video = Tensor::from_bytes(&self.device, DType::U8, &[part, t, h, w, 3], clips)?;
        // Every part of every step draws from a stream of its own, by whichever process it is computed.
        let part_of_all = (self.step * group.size() as u64 + group.rank() as u64) * parts as u64 + i as u64;
        let stream = part_of_all * self.goals.len() as u64 + set as u64;
        let mut pass = Pass::training(self.recipe.regularisation, self.recipe.seed, stream);
        let logits = model.forward_for(goal.head, &video, &mut pass)?.cast(DType::F32)?;
        let loss = self.loss(goal, &logits, &batch.targets[rows.clone()], self.recipe.label_smoothing)?;
        let mut accuracy = Accuracy::default();
        for (scores, &label) in logits.to_vec::<f32>()?.chunks(logits.shape()[1].max(1)).zip(&batch.labels[rows]) {
            accuracy.add(scores, label);
        }
        Ok(Forward { variables, loss, accuracy, statistics: pass.take_statistics() })
    }

    fn loss(&self, goal: Goal, logits: &Tensor, targets: &[Vec<f32>], label_smoothing: f32) -> Result<Tensor> {
        let targets = Tensor::from_slice(&self.device, logits.shape(), &targets.concat())?;
        if goal.multi_label {
            return binary_cross_entropy(BinaryCrossEntropy { reduction: LossReduction::Mean }, logits, &targets, None);
        }
        cross_entropy(CrossEntropy { label_smoothing, reduction: LossReduction::Mean }, logits, &targets)
    }
}
