//! What to train, on what, and how: a JSON file.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tubelet_engine::{DType, Error, Result};

use super::{augment::Augmentation, data::Data, optimiser::Optimiser, schedule::Schedule, start::Start};
use crate::{Regularisation, registry::Config, video::Views};

/// A preset's name, or a whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Model {
    /// As for `--model`.
    Named(String),
    /// As in a configuration file.
    Given(Box<Config>),
}

impl Model {
    /// The configuration.
    ///
    /// # Errors
    /// As [`Config::named`].
    pub fn config(&self) -> Result<Config> {
        match self {
            Model::Named(name) => Config::named(name),
            Model::Given(config) => Ok((**config).clone()),
        }
    }
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
    /// What its parameters begin with, an earlier entry before a later one; what none of them has is drawn from the seed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<Start>,
    /// For a head of other classes than that of the model it starts from: a JSON list with, for each class, the other's class whose row it takes
    /// (UniFormerV2's label maps from Kinetics-710).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_rows: Option<PathBuf>,
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
    /// Clips × crops of a video whose predictions the last evaluation averages, as the system's protocol says; those on the way look at the middle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<Views>,
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

/// The text of a shipped recipe by name, or of a file by path.
pub(super) fn text(name: &OsStr) -> Result<String> {
    let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == name).map(|(_, text)| (*text).to_owned());
    match shipped {
        Some(text) => Ok(text),
        None if Path::new(name).exists() => fs::read_to_string(name).map_err(Error::io(Path::new(name))),
        None => {
            let known: Vec<_> = Recipe::shipped().collect();
            Err(Error::invalid("--recipe", format!("{name:?} is neither a file nor one of {}", known.join(", "))))
        }
    }
}

impl Recipe {
    /// The names of the recipes that come with the crate.
    pub fn shipped() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A shipped recipe by name, or a file by path.
    ///
    /// # Errors
    /// A name that is neither; [`Error::Format`] for a file that is no recipe; and numbers that make no sense.
    pub fn named(name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        Recipe::parse(&name.to_string_lossy(), &text(name)?)
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
        self.model.config()
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
        self.data.validate(self.batch, self.accumulate)?;
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
        } else if self.views.is_some_and(|views| views.clips == 0 || ![1, 3].contains(&views.crops)) {
            "views must be at least one clip and 1 or 3 crops"
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
    use crate::{
        params::Params,
        train::{Stages, Store},
    };

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
            let stages = Stages::named(path.to_str().unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            for (_, recipe) in stages.iter() {
                let mut params = Params::empty(&Device::meter(), DType::F32);
                let config = recipe.config().unwrap();
                config.build(&mut params).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let start = recipe.start.iter().filter_map(|start| start.model.as_ref());
                start.for_each(|model| drop(model.config().unwrap()));
                // A store refuses prefixes that freeze nothing.
                let params = Params::empty(&Device::meter(), DType::F32);
                Store::collect(&config, params, &recipe.freeze).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
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
