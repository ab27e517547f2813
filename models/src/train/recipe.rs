//! What to train, on what, and how: a JSON file.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use tubelet_engine::{DType, Error, Result};

use super::{augment::Augmentation, data::Data, optimiser::Optimiser, schedule::Schedule};
use crate::{Regularisation, registry::Config};

/// A preset's name, or a whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Model {
    /// As for `--model`.
    Named(String),
    /// As in a configuration file.
    Given(Box<Config>),
}

/// A recipe. Fields that are left out are off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// In a line.
    #[serde(default)]
    pub about: String,
    /// What to train.
    pub model: Model,
    /// On what.
    pub data: Data,
    /// Optimiser steps in all.
    pub steps: u64,
    /// Clips of a step.
    pub batch: usize,
    /// Parts that a batch is computed in, one after another, to save memory; batch statistics are each part's.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// How gradients become steps.
    pub optimiser: Optimiser,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// Its course.
    pub schedule: Schedule,
    /// Gradients longer than this, all parameters together, are shortened to it.
    #[serde(default)]
    pub clip_norm: Option<f64>,
    /// What is dropped.
    #[serde(default)]
    pub regularisation: Regularisation,
    /// ε of the smoothed labels.
    #[serde(default)]
    pub label_smoothing: f32,
    /// What is done to clips.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Parameters whose names start so stay as they are: SFA's frozen spatial encoder.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// f32, or bf16 (or f16) for activations and products, with f32 masters.
    #[serde(default = "f32_name")]
    pub precision: String,
    /// Evaluation uses a moving average of the parameters with this decay.
    #[serde(default)]
    pub average: Option<f64>,
    /// Of initial weights, order of clips, augmentation and dropping.
    #[serde(default)]
    pub seed: u64,
    /// Steps between evaluations; 0 for one at the end.
    #[serde(default)]
    pub evaluate_every: u64,
    /// Steps between checkpoints.
    #[serde(default = "hundred")]
    pub checkpoint_every: u64,
}

fn one() -> usize {
    1
}

fn hundred() -> u64 {
    100
}

fn f32_name() -> String {
    "f32".into()
}

/// Recipes that come with the crate.
const SHIPPED: [(&str, &str); 5] = [
    // The model in the box.
    ("camera-motion", include_str!("../../recipes/camera-motion-uniformerv2.json")),
    ("camera-motion-tubevit", include_str!("../../recipes/camera-motion-tubevit.json")),
    ("camera-motion-vivit", include_str!("../../recipes/camera-motion-vivit.json")),
    ("camera-motion-vidtr", include_str!("../../recipes/camera-motion-vidtr.json")),
    ("camera-motion-uniformerv2", include_str!("../../recipes/camera-motion-uniformerv2.json")),
];

impl Recipe {
    /// The names of the recipes that come with the crate.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A shipped recipe by name, or a file by path.
    ///
    /// # Errors
    /// A name that is neither; [`Error::Format`] for a file that is no recipe; and numbers that make no sense.
    pub fn named(name: &str) -> Result<Self> {
        let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| (*text).to_owned());
        let text = match shipped {
            Some(text) => text,
            None if Path::new(name).exists() => fs::read_to_string(name).map_err(Error::io(name))?,
            None => {
                let known: Vec<_> = Recipe::shipped().collect();
                let message = format!("{name:?} is neither a file nor one of {}", known.join(", "));
                return Err(Error::invalid("--recipe", message));
            }
        };
        Recipe::parse(name, &text)
    }

    /// From JSON; `what` names it in errors.
    ///
    /// # Errors
    /// As [`Recipe::named`].
    pub fn parse(what: &str, text: &str) -> Result<Self> {
        let recipe: Recipe = serde_json::from_str(text).map_err(|error| Error::format(what, format!("not a recipe: {error}")))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The model's configuration.
    pub fn config(&self) -> Result<Config> {
        match &self.model {
            Model::Named(name) => Config::named(name),
            Model::Given(config) => Ok((**config).clone()),
        }
    }

    /// The element type that is computed in.
    pub fn dtype(&self) -> Result<DType> {
        let found = DType::FLOATS.into_iter().find(|dtype| dtype.name() == self.precision);
        found.ok_or_else(|| Error::invalid("precision", format!("{:?} is none of f32, bf16, f16", self.precision)))
    }

    fn validate(&self) -> Result<()> {
        self.dtype()?;
        self.optimiser.validate()?;
        self.schedule.validate()?;
        self.augmentation.validate()?;
        for (name, probability) in self.regularisation.probabilities() {
            if !(0.0..1.0).contains(&probability) {
                return Err(Error::invalid(name, format!("{probability} is not in 0..1")));
            }
        }
        let problem = if self.steps == 0 || self.steps > u64::from(u32::MAX) {
            "steps must be in 1..2³²"
        } else if self.batch == 0 || self.accumulate == 0 || !self.batch.is_multiple_of(self.accumulate) {
            "batch must be a multiple of accumulate, neither 0"
        } else if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            "learning_rate must be positive"
        } else if self.clip_norm.is_some_and(|limit| limit.is_nan() || limit <= 0.0) {
            "clip_norm must be positive"
        } else if !(0.0..1.0).contains(&self.label_smoothing) {
            "label_smoothing must be in 0..1"
        } else if self.average.is_some_and(|decay| !(0.0..1.0).contains(&decay)) {
            "average must be in 0..1"
        } else if self.checkpoint_every == 0 {
            "checkpoint_every must be positive"
        } else {
            return Ok(());
        };
        Err(Error::invalid("recipe", problem))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tubelet_engine::Device;

    use super::*;
    use crate::params::Params;

    #[test]
    fn shipped_recipes_are_recipes() {
        for name in Recipe::shipped() {
            let recipe = Recipe::named(name).unwrap();
            recipe.config().unwrap();
            assert!(!recipe.about.is_empty(), "{name}");
        }
    }

    /// Those for Kinetics, too, which need its clips.
    #[test]
    fn every_file_is_a_recipe_for_a_model_that_can_be_built() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let recipe = Recipe::named(path.to_str().unwrap()).unwrap();
            let mut params = Params::empty(&Device::meter(), DType::F32);
            recipe.config().unwrap().build(&mut params).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let good = Recipe::named("camera-motion").unwrap();
        let text = |recipe: &Recipe| serde_json::to_string(recipe).unwrap();
        assert_eq!(Recipe::parse("x", &text(&good)).unwrap(), good);
        let error = |recipe: Recipe| Recipe::parse("x", &text(&recipe)).unwrap_err().to_string();
        assert!(error(Recipe { batch: 0, ..good.clone() }).contains("batch"));
        assert!(error(Recipe { precision: "f8".into(), ..good.clone() }).contains("precision"));
        let regularisation = Regularisation { drop_path: 1.0, ..good.regularisation };
        assert!(error(Recipe { regularisation, ..good }).contains("drop_path"));
        assert!(Recipe::named("no-such-recipe").unwrap_err().to_string().contains("camera-motion"));
    }
}
