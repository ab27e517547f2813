//! One training step after another.

#[cfg(feature = "cuda")]
mod captured;
#[cfg(not(feature = "cuda"))]
#[path = "uncaptured.rs"]
mod captured;
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
    optimiser::{Settle, Slot, clip_factor, finite, global_norm, moving_average, replace},
    parallel::{Alone, Group, agree, sums},
    recipe::Recipe,
    store::{Store, Variables},
};
use crate::{Pass, params::Params, registry::Config};
use captured::Captured;
pub use evaluate::{Evaluation, Seen};

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
    /// Steps that the device goes through on its own, if they shall.
    captured: Option<Captured>,
    whole: bool,
}

/// What is learned from a data set.
#[derive(Clone, Copy, Debug)]
struct Goal {
    head: usize,
    multi_label: bool,
}

/// Logits of a part of a batch, and their loss. They are not read before all work has been given to the device.
struct Outcome {
    loss: Tensor,
    logits: Tensor,
}

/// The results of the forward and backward passes over a batch.
struct Gradients {
    /// Of the parts of one data set after another.
    outcomes: Vec<Outcome>,
    sums: BTreeMap<String, Tensor>,
    statistics: BTreeMap<String, Tensor>,
}

/// The results of a forward pass.
struct Forward {
    variables: Variables,
    outcome: Outcome,
    loss: Tensor,
    statistics: BTreeMap<String, Tensor>,
}

/// What an optimiser is told of a step.
struct Rates {
    /// Counted from 1.
    step: u32,
    learning_rate: f64,
    gradient_scale: f64,
    /// What the moving average, if there is one, keeps of itself, and takes of the parameters.
    average: Option<[Tensor; 2]>,
}

/// Gives clips and targets of part `i` of a data set's share: `source(set, i)`.
type Source<'a> = dyn FnMut(usize, usize) -> Result<[Tensor; 2]> + 'a;

impl Trainer {
    /// A new run. The parameters are those of `params`, which is f32 on the device: random ones, a checkpoint's, or an image model's.
    ///
    /// # Errors
    /// Of building the model.
    pub fn new(recipe: Recipe, device: &Device, params: Params<'_>) -> Result<Self> {
        let (config, dtype) = (recipe.config()?, recipe.dtype()?);
        let store = Store::collect(&config, params, &recipe.freeze)?;
        let sets = recipe.data.sets().into_iter().zip(recipe.data.heads(&config)?);
        let goals = sets.map(|((_, multi_label), head)| Goal { head, multi_label }).collect();
        let (memory, average) = (BTreeMap::new(), BTreeMap::new());
        let device = device.clone();
        Ok(Trainer { recipe, config, device, dtype, store, memory, average, step: 0, goals, captured: None, whole: false })
    }

    /// With random parameters from the recipe's seed.
    pub fn random(recipe: Recipe, device: &Device) -> Result<Self> {
        let params = Params::random(device, DType::F32, recipe.seed);
        Trainer::new(recipe, device, params)
    }

    /// The same, whose passes compute what nobody reads: see [`Pass::wants_all`].
    pub fn whole(self) -> Self {
        Trainer { whole: true, ..self }
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
        let clips = self.part(batch, self.parts(&Alone), 0)?;
        let forward = self.forward(&Alone, self.step, (0, 0), clips, &BTreeMap::new())?;
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
        if self.replays() {
            return self.replay(group, batches);
        }
        let found = self.checked(group, batches)?;
        let report = self.apply(found);
        // One that has no memory left must not leave the others waiting.
        agree(group, &self.device, report)
    }

    /// The optimiser's step with the gradients of the whole batch.
    fn apply(&mut self, (mut report, found): (StepReport, Gradients)) -> Result<StepReport> {
        report.learning_rate = self.learning_rate();
        let weights = self.recipe.average.map(|decay| self.average_weights(decay));
        let tensor = |x: f32| Tensor::full(&self.device, DType::F32, &[], x);
        let average = weights.map(|[decay, rest]| Ok::<_, Error>([tensor(decay)?, tensor(rest)?])).transpose()?;
        let gradient_scale = clip_factor(report.norm, self.recipe.clip_norm);
        let rates = Rates { step: self.step as u32 + 1, learning_rate: report.learning_rate, gradient_scale, average };
        self.step += 1;
        self.update(found, &rates, &mut replace)?;
        Ok(report)
    }

    /// Of the next step.
    fn learning_rate(&self) -> f64 {
        self.recipe.learning_rate * self.recipe.schedule.part(self.step, self.recipe.steps)
    }

    /// What the moving average keeps of itself in the next step, and takes of the parameters: it is no better than the last values until there is something
    /// to average.
    fn average_weights(&self, decay: f64) -> [f32; 2] {
        let done = self.step + 1;
        let decay = decay.min(done as f64 / (done + 10) as f64);
        [decay as f32, (1.0 - decay) as f32]
    }

    /// New parameters, with all that goes with them.
    fn update(&mut self, found: Gradients, rates: &Rates, settle: &mut Settle<'_>) -> Result<()> {
        let Gradients { sums: mut gradients, statistics, .. } = found;
        for (name, new) in statistics {
            let value = self.store.values.get_mut(&name).ok_or_else(|| Error::invalid(name, "statistics of no parameter"))?;
            *value = settle(value, new)?;
        }
        for name in gradients.keys() {
            self.memory.entry(name.clone()).or_default();
        }
        let mut slots = Vec::new();
        let mut memory: BTreeMap<&str, &mut Vec<Tensor>> = self.memory.iter_mut().map(|(name, m)| (name.as_str(), m)).collect();
        for (name, value) in &mut self.store.values {
            if let (Some(gradient), Some(memory)) = (gradients.remove(name), memory.remove(name.as_str())) {
                slots.push(Slot { name, value, gradient, memory });
            }
        }
        self.recipe.optimiser.step(rates.step, rates.learning_rate, rates.gradient_scale, slots, settle)?;
        if let Some(weights) = &rates.average {
            let values =
                self.store.trainable().filter_map(|name| Some((name.clone(), self.store.values.get(name)?.clone()))).collect();
            moving_average(&mut self.average, &values, weights, settle)?;
        }
        Ok(())
    }

    /// The gradients of the whole batch, all of them finite.
    fn checked(&self, group: &dyn Group, batches: &[Batch]) -> Result<(StepReport, Gradients)> {
        let found = self.eagerly(group, batches).and_then(|found| Ok((self.report(group, &found.outcomes, batches)?, found)));
        let found = self.total(group, found).and_then(|(mut report, found)| {
            report.norm = global_norm(found.sums.values())?;
            finite("loss", "it", report.loss)?;
            Ok((report, found))
        });
        found.map_err(|error| self.named(group, batches, error))
    }

    /// Once more, looking, after the next step has failed: which operation was the first?
    fn named(&self, group: &dyn Group, batches: &[Batch], error: Error) -> Error {
        let named = detect_anomalies(|| self.eagerly(group, batches)).err().unwrap_or(error);
        Error::invalid(format!("step {}", self.step + 1), named.to_string())
    }

    /// The sums over all processes.
    fn total(&self, group: &dyn Group, found: Result<(StepReport, Gradients)>) -> Result<(StepReport, Gradients)> {
        let (report, mut found) = agree(group, &self.device, found)?;
        if group.size() == 1 {
            return Ok((report, found));
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
        let StepReport { loss, accuracy, .. } = report;
        let counts = [accuracy.top1, accuracy.top5, accuracy.total].map(|n| n as f32);
        let [loss, top1, top5, total] = sums(group, &self.device, [loss as f32, counts[0], counts[1], counts[2]])?;
        let [top1, top5, total] = [top1, top5, total].map(|n| n as usize);
        Ok((StepReport { loss: f64::from(loss), accuracy: Accuracy { top1, top5, total }, ..report }, found))
    }

    /// The gradients of the next step, from clips that are uploaded part by part.
    fn eagerly(&self, group: &dyn Group, batches: &[Batch]) -> Result<Gradients> {
        let parts = self.parts(group);
        self.gradients(group, self.step, &clips(batches), &mut |set, i| self.part(&batches[set], parts, i))
    }

    /// Part `i` of `parts` of a share, on the device: clips and targets.
    fn part(&self, batch: &Batch, parts: usize, i: usize) -> Result<[Tensor; 2]> {
        let (video, targets) = batch.part(parts, i);
        let [t, h, w] = batch.clip;
        let video = Tensor::from_bytes(&self.device, DType::U8, &[targets.len(), t, h, w, 3], video)?;
        let classes = targets.first().map_or(0, Vec::len);
        Ok([video, Tensor::from_slice(&self.device, &[targets.len(), classes], &targets.concat())?])
    }

    /// Forward and backward passes over the parts of this process's share, of one data set after another, each of `clips` clips. The loss is the mean over
    /// all clips, each with the head of its set.
    fn gradients(&self, group: &dyn Group, step: u64, clips: &[usize], source: &mut Source<'_>) -> Result<Gradients> {
        if clips.len() != self.goals.len() {
            return Err(Error::invalid("batch", format!("{} batches for {} data sets", clips.len(), self.goals.len())));
        }
        let mut found = Gradients { outcomes: Vec::new(), sums: BTreeMap::new(), statistics: BTreeMap::new() };
        for set in 0..clips.len() {
            for i in 0..self.parts(group) {
                let Forward { variables, outcome, loss, statistics } =
                    self.forward(group, step, (set, i), source(set, i)?, &found.statistics)?;
                found.statistics.extend(statistics);
                found.outcomes.push(outcome);
                let share = Tensor::full(&self.device, DType::F32, &[], self.share(group, clips, set) as f32)?;
                variables.accumulate(&mut backward_from(&[(&loss, &share)])?, &mut found.sums)?;
            }
        }
        Ok(found)
    }

    /// What the mean over all clips takes of the mean over a part.
    fn share(&self, group: &dyn Group, clips: &[usize], set: usize) -> f64 {
        let all = self.parts(group) * group.size();
        clips[set] as f64 / clips.iter().sum::<usize>() as f64 / all as f64
    }

    /// Loss and accuracy: waits for the device.
    fn report(&self, group: &dyn Group, outcomes: &[Outcome], batches: &[Batch]) -> Result<StepReport> {
        let (mut report, clips, parts) = (StepReport::default(), clips(batches), self.parts(group));
        for (at, Outcome { loss, logits }) in outcomes.iter().enumerate() {
            let (set, i) = (at / parts, at % parts);
            report.loss += f64::from(loss.to_vec::<f32>()?[0]) * self.share(group, &clips, set);
            let part = clips[set] / parts;
            let labels = &batches[set].labels[i * part..(i + 1) * part];
            for (scores, &label) in logits.to_vec::<f32>()?.chunks(logits.shape()[1].max(1)).zip(labels) {
                report.accuracy.add(scores, label)?;
            }
        }
        Ok(report)
    }

    /// The forward pass over part `i` of the share of a data set, with running statistics as the parts before have left them.
    fn forward(
        &self,
        group: &dyn Group,
        step: u64,
        (set, i): (usize, usize),
        [video, targets]: [Tensor; 2],
        statistics: &BTreeMap<String, Tensor>,
    ) -> Result<Forward> {
        let goal = self.goals[set];
        let store = self.store.with_values(statistics);
        let (model, variables) = store.training_model(&self.config, &self.device, self.dtype)?;
        // Every part of every step draws from a stream of its own, by whichever process it is computed.
        let part_of_all = (step * group.size() as u64 + group.rank() as u64) * self.parts(group) as u64 + i as u64;
        let stream = part_of_all * self.goals.len() as u64 + set as u64;
        let pass = Pass::training(self.recipe.regularisation, self.recipe.seed, stream);
        let mut pass = if self.whole { pass.whole() } else { pass };
        let logits = model.forward_for(goal.head, &video, &mut pass)?.cast(DType::F32)?;
        let loss = loss(goal, &logits, &targets, self.recipe.label_smoothing)?;
        let outcome = Outcome { loss: loss.detach(), logits: logits.detach() };
        Ok(Forward { variables, outcome, loss, statistics: pass.take_statistics() })
    }
}

/// The clips of each data set's share.
fn clips(batches: &[Batch]) -> Vec<usize> {
    batches.iter().map(|batch| batch.targets.len()).collect()
}

fn loss(goal: Goal, logits: &Tensor, targets: &Tensor, label_smoothing: f32) -> Result<Tensor> {
    if goal.multi_label {
        return binary_cross_entropy(BinaryCrossEntropy { reduction: LossReduction::Mean }, logits, targets, None);
    }
    cross_entropy(CrossEntropy { label_smoothing, reduction: LossReduction::Mean }, logits, targets)
}
