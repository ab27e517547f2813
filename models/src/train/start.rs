//! Where the parameters of a run come from.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};
use tubelet_engine::{DType, Device, Error, Result};

use super::{
    Trainer,
    recipe::{Model, Recipe},
};
use crate::{
    init::{Inflation, Initial, Selection},
    params::Params,
    registry::{Config, Own},
    weights::{Choice, Weights},
};

/// A checkpoint that a run's parameters come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// What it holds the parameters of, if not of the recipe's model: an image model, or another of the same system.
    #[serde(default)]
    pub model: Option<Model>,
    /// The checkpoint, in any naming of that model.
    pub weights: PathBuf,
    /// Only parameters whose new names start with one of these are taken: `tubes.` of a small TubeViT for a large one (section 3.6).
    #[serde(default)]
    pub take: Vec<String>,
    /// The dictionary of the checkpoint, where several hold weights; without it as [`weights`](crate::weights) says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dict: Option<String>,
}

/// A new trainer whose parameters come from `start`, an earlier entry before a later one; what none of them has is drawn from the recipe's seed.
/// What there is to say of the choice among a checkpoint's weights goes to `note`.
///
/// # Errors
/// Of reading, and of models that give nothing to this one.
pub(super) fn trainer(
    recipe: Recipe,
    config: &Config,
    device: &Device,
    start: &[Start],
    note: &mut dyn FnMut(String),
) -> Result<Trainer> {
    let mut files = Vec::with_capacity(start.len());
    for Start { model, weights, take, state_dict } in start {
        let source = model.as_ref().map(Model::config).transpose()?;
        let choice = Choice { naming: None, state_dict: state_dict.as_deref() };
        let mut weights = Weights::open(source.as_ref().unwrap_or(config), weights, choice)?;
        weights.note.take().into_iter().for_each(&mut *note);
        files.push((source, weights, take.as_slice()));
    }
    let params = |file, naming| Params::from_file(device, DType::F32, file, naming);
    if let [(None, weights, [])] = files.as_slice()
        && recipe.head_rows.is_none()
    {
        return Trainer::new(recipe, device, params(&weights.file, &*weights.naming));
    }
    let head_rows = recipe.head_rows.as_ref().map(|path| -> Result<Vec<usize>> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let misfit = |error| Error::format(path.display().to_string(), format!("expected a list of class numbers: {error}"));
        serde_json::from_str(&text).map_err(misfit)
    });
    let head_rows = head_rows.transpose()?;
    let mut all: Option<Initial> = None;
    for (source, Weights { file, naming, .. }, take) in &files {
        let selection = Selection { take: take.to_vec(), head_rows: head_rows.clone() };
        let source = source.as_ref().unwrap_or(config);
        let part = Initial::select(source, file, &**naming, config, Inflation::CentralFrame, &selection)?;
        all = Some(match all {
            Some(all) => all.or(part),
            None => part,
        });
    }
    let seed = recipe.seed;
    match &all {
        Some(all) => Trainer::new(recipe, device, params(all, &Own).or_random(seed)),
        None => Trainer::random(recipe, device),
    }
}
