//! What a trainer keeps: checkpoints, the finished weights, and what the processes of a group have in common.

use std::{collections::BTreeMap, path::Path};

use tubelet_engine::{DType, Error, Result, Tensor};

use super::Trainer;
use crate::train::{
    Recipe, State,
    data::names_key,
    parallel::{Group, agree, zeros},
    state::write,
};

impl Trainer {
    /// Everything that a later [`Trainer::restore`] needs, as it is until the next step: where steps are captured, their tensors change.
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
        self.forget_plan();
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
        self.forget_plan();
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

    /// Writes the (averaged) parameters in our own naming, rounded to `dtype`, for `classify --weights`. `names` has
    /// for each data set, by its number, the names of its classes, if it has any.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn export(&self, path: &Path, dtype: DType, names: &[Option<Vec<String>>]) -> Result<()> {
        let config = serde_json::to_string(&self.config).map_err(|error| Error::invalid("config", error.to_string()))?;
        let mut metadata = BTreeMap::from([("config".to_owned(), config), ("steps".to_owned(), self.step.to_string())]);
        let sets = self.recipe.data.sets();
        for (((set, _), goal), names) in sets.iter().zip(&self.goals).zip(names) {
            let Some(names) = names.as_ref().map(|names| names.join("\n")) else { continue };
            if goal.head == 0 {
                metadata.insert(names_key(None), names.clone());
            }
            metadata.insert(names_key(*set), names);
        }
        let values = self.averaged().values.into_iter();
        let rounded = values.map(|(name, x)| Ok((name, x.cast(dtype)?))).collect::<Result<BTreeMap<_, _>>>()?;
        write(path, &metadata, &rounded)
    }
}
