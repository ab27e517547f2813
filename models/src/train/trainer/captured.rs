//! Training steps that are captured once and replayed: on a GPU each is the launch of one CUDA graph.
//!
//! Uploaded before a replay are clips, targets and a few numbers; loss, logits and the norm of the gradients are read after it. The bits are those of eager
//! steps: the same kernels, and what else the host computes between them the device computes in the same order.

use tubelet_cuda::{CudaBackend, Plan};
use tubelet_engine::{Error, Result, Tensor, ops::copy::copy};

use super::{Outcome, Rates, StepReport, Trainer, clips};
use crate::{
    pass::STREAMS,
    train::{
        loader::Batch,
        optimiser::{finite, squares},
        parallel::{Alone, Group},
    },
};

/// A captured step, from the first on that has all that it changes.
#[derive(Default)]
pub(super) struct Captured(Option<Plan<Vec<Outcome>>>);

impl Trainer {
    /// Whether steps are captured, once there is all that they change: the very first makes the optimiser's memory, and is computed eagerly. From then on all
    /// batches have to have the same sizes, and parameters, memory and average lie where they are: whoever has them from here sees them change.
    ///
    /// # Errors
    /// For devices that are not CUDA's.
    pub fn capture(&mut self, captured: bool) -> Result<()> {
        if captured && self.device.downcast::<CudaBackend>().is_none() {
            return Err(Error::invalid("capture", format!("{} is not a CUDA device", self.device.name())));
        }
        self.captured = captured.then(Captured::default);
        Ok(())
    }

    /// Bytes of device memory that the captured step has for itself, beside parameters, the optimiser's memory and the average; and what it launches. `None`
    /// before there is one.
    pub fn planned(&self) -> Option<(usize, usize)> {
        let plan = self.captured.as_ref()?.0.as_ref()?;
        Some((plan.memory(), plan.launches()))
    }

    /// What was captured was of other tensors.
    pub(super) fn forget_plan(&mut self) {
        self.captured.iter_mut().for_each(|captured| captured.0 = None);
    }

    /// Whether the next step is a replay.
    pub(super) fn replays(&self) -> bool {
        let moments = self.recipe.optimiser.moments();
        let remembered = |name| moments == 0 || self.memory.get(name).is_some_and(|memory| memory.len() == moments);
        let averaged = |name| self.recipe.average.is_none() || self.average.contains_key(name);
        self.captured.is_some() && self.store.trainable().all(|name| remembered(name) && averaged(name))
    }

    /// One optimiser step, captured if it is the first. After an error there is no plan any more.
    pub(super) fn replay(&mut self, group: &dyn Group, batches: &[Batch]) -> Result<StepReport> {
        if group.size() > 1 {
            return Err(Error::invalid(
                "capture",
                "steps of several processes are not captured: they exchange gradients in the midst of them",
            ));
        }
        let known = self.captured.as_mut().and_then(|captured| captured.0.take());
        let mut plan = known.map_or_else(|| self.captured_step(batches), Ok)?;
        self.write(&mut plan, batches)?;
        let mut report = {
            let outcomes = plan.replay()?;
            self.report(&Alone, outcomes, batches).map_err(|error| self.named(&Alone, batches, error))?
        };
        report.learning_rate = self.learning_rate();
        // Where one of them is not finite, nothing was changed that gradients depend on.
        let checked = finite("gradient", "its norm", plan.norm()?).and_then(|norm| {
            finite("loss", "it", report.loss)?;
            Ok(norm)
        });
        report.norm = checked.map_err(|error| self.named(&Alone, batches, error))?;
        self.step += 1;
        self.captured = Some(Captured(Some(plan)));
        Ok(report)
    }

    /// What is new about the next step.
    fn write(&self, plan: &mut Plan<Vec<Outcome>>, batches: &[Batch]) -> Result<()> {
        let parts = self.parts(&Alone);
        let all = batches.iter().flat_map(|batch| (0..parts).map(move |i| batch.part(parts, i)));
        for (at, (video, targets)) in all.enumerate() {
            plan.write(2 * at, video)?;
            plan.write(2 * at + 1, &targets.concat())?;
        }
        if let Some(decay) = self.recipe.average {
            for (i, weight) in self.average_weights(decay).into_iter().enumerate() {
                plan.write(2 * batches.len() * parts + i, &[weight])?;
            }
        }
        // Captured are the streams of step 0: a step further each part's is as many streams further as there are parts.
        let streams = (parts * self.goals.len()) as u64 * STREAMS;
        let optimiser = self.recipe.optimiser.operation(self.step as u32 + 1, self.learning_rate(), 1.0, true);
        plan.set_step(self.step.wrapping_mul(streams), &optimiser)
    }

    /// A plan of steps with batches of such sizes.
    fn captured_step(&mut self, batches: &[Batch]) -> Result<Plan<Vec<Outcome>>> {
        self.own_state()?;
        let (device, parts, clips) = (self.device.clone(), self.parts(&Alone), clips(batches));
        let mut examples = Vec::new();
        for batch in batches {
            for i in 0..parts {
                examples.extend(self.part(batch, parts, i)?);
            }
        }
        let weights = examples.len();
        for weight in self.recipe.average.map(|decay| self.average_weights(decay)).into_iter().flatten() {
            examples.push(Tensor::from_slice(&device, &[], &[weight])?);
        }
        let examples: Vec<&Tensor> = examples.iter().collect();
        Plan::capture_step(&device, &examples, |inputs, step| {
            let pair = |at: usize| [inputs[at].clone(), inputs[at + 1].clone()];
            let mut found = self.gradients(&Alone, 0, &clips, &mut |set, i| Ok(pair(2 * (set * parts + i))))?;
            let outcomes = std::mem::take(&mut found.outcomes);
            let losses: Vec<Tensor> = outcomes.iter().map(|outcome| outcome.loss.clone()).collect();
            step.clip(&squares(found.sums.values())?, &losses, self.recipe.clip_norm)?;
            // Each replay has its own rates; that there is a learning rate tells which parameters decay.
            let (learning_rate, average) = (self.recipe.learning_rate, self.recipe.average.map(|_| pair(weights)));
            let rates = Rates { step: 1, learning_rate, gradient_scale: 1.0, average };
            self.update(found, &rates, &mut |state, new| {
                step.carry(state, &new)?;
                Ok(state.clone())
            })?;
            Ok(outcomes)
        })
    }

    /// All that a step changes in memory of its own: values that were the same so far, as a parameter and its average, lie together.
    fn own_state(&mut self) -> Result<()> {
        let Trainer { store, memory, average, .. } = self;
        let mut all = store.values.values_mut().chain(memory.values_mut().flatten()).chain(average.values_mut());
        all.try_for_each(|x| {
            *x = copy(x, x.dtype())?;
            Ok(())
        })
    }
}
