//! One training step after another.

use std::{collections::BTreeMap, path::Path};

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
    data::Dataset,
    loader::Batch,
    metrics::{Accuracy, mean_average_precision},
    optimiser::{Slot, clip_factor, global_norm, moving_average},
    parallel::{Alone, Group, agree, sums, zeros},
    recipe::Recipe,
    state::State,
    store::{Store, Variables},
};
use crate::{Pass, params::Params, registry::Config};

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

/// How good a model is on a data set.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Mean loss, without label smoothing.
    pub loss: f64,
    /// Right predictions.
    pub accuracy: Accuracy,
    /// For multi-label sets.
    pub mean_average_precision: Option<f64>,
    /// `confusion[label][prediction]`, counts.
    pub confusion: Vec<Vec<usize>>,
    /// Clips that could not be read.
    pub skipped: usize,
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
        let (memory, average) = (BTreeMap::new(), BTreeMap::new());
        Ok(Trainer { recipe, config, device: device.clone(), dtype, store, memory, average, step: 0 })
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

    /// The number of classes.
    pub fn classes(&self) -> Result<usize> {
        Ok(self.store.training_model(&self.config, &self.device, self.dtype)?.0.classes())
    }

    /// Bytes alive on the device between the forward and the backward pass of a batch's first part.
    ///
    /// # Errors
    /// What operations say.
    pub fn kept(&self, batch: &Batch) -> Result<u64> {
        let forward = self.forward(&Alone, batch, 0, &BTreeMap::new())?;
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
        self.step_with(&Alone, batch)
    }

    /// Parts that each process computes its share of a batch in, so that there are as many in all as the recipe says, or one for each process.
    pub fn parts(&self, group: &dyn Group) -> usize {
        self.recipe.accumulate.div_ceil(group.size())
    }

    /// One optimiser step of several processes, of which each has its share of the batch. All end with the same parameters: gradients are summed over
    /// the processes before their norm is taken and clipped.
    ///
    /// # Errors
    /// As [`Trainer::step`], on every process when on one.
    pub fn step_with(&mut self, group: &dyn Group, batch: &Batch) -> Result<StepReport> {
        let Gradients { mut report, sums, statistics } = self.checked(group, batch)?;
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
    fn checked(&self, group: &dyn Group, batch: &Batch) -> Result<Gradients> {
        let found = self.gradients(group, batch);
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
            let named = detect_anomalies(|| self.gradients(group, batch)).err().unwrap_or(error);
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

    /// Forward and backward passes over the parts of this process's share.
    fn gradients(&self, group: &dyn Group, batch: &Batch) -> Result<Gradients> {
        let mut found = Gradients { report: StepReport::default(), sums: BTreeMap::new(), statistics: BTreeMap::new() };
        let all = self.parts(group) * group.size();
        for i in 0..self.parts(group) {
            let Forward { variables, loss, accuracy, statistics } = self.forward(group, batch, i, &found.statistics)?;
            found.statistics.extend(statistics);
            found.report.loss += f64::from(loss.to_vec::<f32>()?[0]) / all as f64;
            found.report.accuracy.top1 += accuracy.top1;
            found.report.accuracy.top5 += accuracy.top5;
            found.report.accuracy.total += accuracy.total;
            let share = Tensor::full(&self.device, DType::F32, &[], 1.0 / all as f32)?;
            variables.accumulate(&mut backward_from(&[(&loss, &share)])?, &mut found.sums)?;
        }
        Ok(found)
    }

    /// The forward pass over part `i` of a share, with running statistics as the parts before have left them.
    fn forward(&self, group: &dyn Group, batch: &Batch, i: usize, statistics: &BTreeMap<String, Tensor>) -> Result<Forward> {
        let parts = self.parts(group);
        let part = batch.targets.len() / parts;
        let bytes = batch.video.len() / batch.targets.len().max(1);
        let rows = i * part..(i + 1) * part;
        let store = self.store.with_values(statistics);
        let (model, variables) = store.training_model(&self.config, &self.device, self.dtype)?;
        let [t, h, w] = batch.clip;
        let clips = &batch.video[rows.start * bytes..rows.end * bytes];
        let video = Tensor::from_bytes(&self.device, DType::U8, &[part, t, h, w, 3], clips)?;
        // Every part of every step draws from a stream of its own, by whichever process it is computed.
        let stream = (self.step * group.size() as u64 + group.rank() as u64) * parts as u64 + i as u64;
        let mut pass = Pass::training(self.recipe.regularisation, self.recipe.seed, stream);
        let logits = model.forward(&video, &mut pass)?.cast(DType::F32)?;
        let loss = self.loss(&logits, &batch.targets[rows.clone()], self.recipe.label_smoothing)?;
        let mut accuracy = Accuracy::default();
        for (scores, &label) in logits.to_vec::<f32>()?.chunks(model.classes().max(1)).zip(&batch.labels[rows]) {
            accuracy.add(scores, label);
        }
        Ok(Forward { variables, loss, accuracy, statistics: pass.take_statistics() })
    }

    fn loss(&self, logits: &Tensor, targets: &[Vec<f32>], label_smoothing: f32) -> Result<Tensor> {
        let targets = Tensor::from_slice(&self.device, logits.shape(), &targets.concat())?;
        if self.recipe.data.is_multi_label() {
            return binary_cross_entropy(BinaryCrossEntropy { reduction: LossReduction::Mean }, logits, &targets, None);
        }
        cross_entropy(CrossEntropy { label_smoothing, reduction: LossReduction::Mean }, logits, &targets)
    }

    /// How good the (averaged) parameters are on at most `most` clips of a data set. `progress` is told of each batch's clips.
    ///
    /// # Errors
    /// What operations say, and a data set of which nothing can be read.
    pub fn evaluate(&self, data: &dyn Dataset, most: u64, progress: &mut dyn FnMut(u64)) -> Result<Evaluation> {
        let model = self.averaged().model(&self.config, &self.device, self.dtype)?;
        let classes = model.classes();
        let mut found = Evaluation { confusion: vec![vec![0; classes]; classes], ..Evaluation::default() };
        let (mut scores, mut positives, mut loss) = (Vec::new(), Vec::new(), 0.0);
        for index in 0..data.size().unwrap_or(most).min(most) {
            progress(1);
            let Ok(sample) = data.sample(index, None) else {
                found.skipped += 1;
                continue;
            };
            let frames = &sample.frames;
            let shape = [1, frames.len(), frames.height, frames.width, 3];
            let video = Tensor::from_bytes(&self.device, DType::U8, &shape, &frames.data)?;
            let logits = model.forward(&video, &mut Pass::inference())?.cast(DType::F32)?;
            let row: Vec<bool> = (0..classes).map(|class| sample.labels.contains(&class)).collect();
            let target = row.iter().map(|&x| f32::from(u8::from(x))).collect();
            loss += f64::from(self.loss(&logits, &[target], 0.0)?.to_vec::<f32>()?[0]);
            let logits = logits.to_vec::<f32>()?;
            if let Some(&label) = sample.labels.first() {
                found.accuracy.add(&logits, label);
                let best = (0..classes).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
                if let Some(count) = found.confusion.get_mut(label).and_then(|row| row.get_mut(best)) {
                    *count += 1;
                }
            }
            scores.push(logits);
            positives.push(row);
        }
        if scores.is_empty() {
            return Err(Error::format("validation", format!("none of {} clips could be read", found.skipped)));
        }
        found.loss = loss / scores.len() as f64;
        if self.recipe.data.is_multi_label() {
            found.mean_average_precision = mean_average_precision(&scores, &positives);
        }
        Ok(found)
    }

    /// Everything that a later [`Trainer::restore`] needs.
    pub fn state(&self) -> Result<State> {
        let recipe = serde_json::to_string(&self.recipe).map_err(|error| Error::invalid("recipe", error.to_string()))?;
        let mut tensors = BTreeMap::new();
        tensors.extend(self.store.values.iter().map(|(name, x)| (format!("value.{name}"), x.clone())));
        tensors.extend(self.average.iter().map(|(name, x)| (format!("average.{name}"), x.clone())));
        for (name, memory) in &self.memory {
            tensors.extend(memory.iter().enumerate().map(|(i, x)| (format!("memory.{i}.{name}"), x.clone())));
        }
        Ok(State { step: self.step, recipe, tensors })
    }

    /// Goes on from a state of the same recipe: the next step has the bits that it would have had without the interruption.
    ///
    /// # Errors
    /// A state of another recipe, or with other tensors than this model's.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let recipe = Recipe::parse("checkpoint", &state.recipe)?;
        // A longer run of the same recipe is another schedule, and so another run.
        if recipe != self.recipe {
            return Err(Error::invalid("--resume", "the checkpoint is of another recipe"));
        }
        let values = state.below("value.");
        let fits = values.len() == self.store.values.len()
            && values.iter().all(|(name, x)| self.store.values.get(name).is_some_and(|own| own.shape() == x.shape()));
        if !fits {
            return Err(Error::invalid("--resume", "the checkpoint holds other parameters than this model's"));
        }
        self.store.values = values;
        self.average = state.below("average.");
        self.memory = BTreeMap::new();
        for i in 0..2 {
            for (name, x) in state.below(&format!("memory.{i}.")) {
                self.memory.entry(name).or_default().push(x);
            }
        }
        self.step = state.step;
        Ok(())
    }

    /// Everything becomes as it is on rank 0, which alone reads checkpoints.
    ///
    /// # Errors
    /// Of the transport; and, on every process, where one has another recipe.
    pub fn synchronise(&mut self, group: &dyn Group) -> Result<()> {
        if group.size() == 1 {
            return Ok(());
        }
        let recipe = serde_json::to_vec(&self.recipe).map_err(|error| Error::invalid("recipe", error.to_string()))?;
        // FNV-1a, and the step, in parts that an f32 holds exactly.
        let hash = recipe.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &x| (hash ^ u64::from(x)).wrapping_mul(0x100_0000_01b3));
        let parts = |x: u64| [x >> 48, x >> 32 & 0xffff, x >> 16 & 0xffff, x & 0xffff].map(|part| part as f32);
        let moments = self.memory.values().next().map_or(0, Vec::len) as f32;
        let averaged = f32::from(u8::from(!self.average.is_empty()));
        let own = [&parts(hash)[..], &parts(self.step)[..], &[moments, averaged]].concat();
        let mut first = [Tensor::from_slice(&self.device, &[own.len()], &own)?];
        group.broadcast(&mut first)?;
        let first = first[0].to_vec::<f32>()?;
        let same = if first[..4] == own[..4] { Ok(()) } else { Err(Error::invalid("recipe", "it is another one than rank 0's")) };
        agree(group, &self.device, same)?;
        self.step = first[4..8].iter().fold(0, |step, &part| step << 16 | part as u64);
        let (moments, averaged) = (first[8] as usize, first[9] > 0.0);
        if group.rank() != 0 {
            (self.memory, self.average) = (BTreeMap::new(), BTreeMap::new());
            for name in self.store.trainable() {
                let Some(value) = self.store.values.get(name) else { continue };
                let memory = (0..moments).map(|_| zeros(value)).collect::<Result<Vec<_>>>()?;
                if moments > 0 {
                    self.memory.insert(name.clone(), memory);
                }
                if averaged {
                    self.average.insert(name.clone(), zeros(value)?);
                }
            }
        }
        let Trainer { store, memory, average, .. } = self;
        let all = store.values.values_mut().chain(memory.values_mut().flatten()).chain(average.values_mut());
        let slots: Vec<&mut Tensor> = all.collect();
        let mut tensors: Vec<Tensor> = slots.iter().map(|x| (**x).clone()).collect();
        group.broadcast(&mut tensors)?;
        slots.into_iter().zip(tensors).for_each(|(slot, tensor)| *slot = tensor);
        Ok(())
    }

    /// Writes the (averaged) parameters in our own naming, rounded to `dtype`, for `classify --weights`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn export(&self, path: &Path, dtype: DType, labels: Option<&[String]>) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(|error| Error::invalid("config", error.to_string()))?;
        let mut metadata = BTreeMap::from([("config".to_owned(), config), ("steps".to_owned(), self.step.to_string())]);
        if let Some(labels) = labels {
            metadata.insert("labels".to_owned(), labels.join("\n"));
        }
        let values = self.averaged().values.into_iter();
        let rounded = values.map(|(name, x)| Ok((name, x.cast(dtype)?))).collect::<Result<BTreeMap<_, _>>>()?;
        super::state::write(path, &metadata, &rounded)
    }
}
