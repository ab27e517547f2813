//! A model's weights among everything that a checkpoint holds.
//!
//! Training programs save weights beside an optimiser's state, averages and copies, in dictionaries whose names they choose. Neither
//! names nor sizes tell which is the model; the model itself does: a dictionary is taken if its names and shapes, in one of the
//! namings that the system is released in, are exactly the model's. Names of wrappers in front of every parameter's (`module.`,
//! `_orig_mod.`) come off on the way.
//!
//! # Several that fit
//! The convention of the field decides, for evaluation and as the start of a training run alike: averaged weights (an exponential
//! moving average, a teacher) over raw ones, raw ones over a student's, and an optimiser's state last. This is what timm does with
//! pretrained weights; whoever goes on from the raw weights names them by [`Choice::state_dict`]. Among raw weights the usual key
//! comes first: `state_dict`, `model_state`, `model`. [`Weights::note`] says what was taken. Where convention says nothing, the
//! choice is refused with the names of those that fit.

use std::{cmp::Reverse, collections::BTreeMap, path::Path};

use tubelet_engine::{DType, Device, Error, Result, Tensor};

use crate::{
    checkpoint::{Candidate, Checkpoint, Dictionaries},
    model::Model,
    params::{Naming, Params, TensorFile},
    registry::Config,
};

/// What is asked of a checkpoint; by default, whatever fits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// The naming of its tensors.
    pub naming: Option<&'a str>,
    /// The path of the dictionary that holds the weights, or that holds this one.
    pub state_dict: Option<&'a str>,
}

/// The tensors of a model in a checkpoint.
pub struct Weights {
    /// They alone, under the names of their naming.
    pub file: Checkpoint,
    /// What the names mean.
    pub naming: Box<dyn Naming>,
    /// What was taken where there was a choice, for whoever runs the program.
    pub note: Option<String>,
}

impl Weights {
    /// The weights of a model in the file or folder at `path`.
    ///
    /// # Errors
    /// Of [`Checkpoint::open`] and [`Weights::find`].
    pub fn open(config: &Config, path: &Path, choice: Choice<'_>) -> Result<Self> {
        Weights::find(config, Checkpoint::open(path)?, choice)
    }

    /// The weights of a model in an open checkpoint. If none of its dictionaries fits, this is the one with the fewest misfits, which
    /// [`Weights::build`] lists.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a naming or a dictionary that there is not, and where several dictionaries fit that no
    /// convention tells apart; [`Error::Format`] for a file without tensors.
    pub fn find(config: &Config, file: Checkpoint, choice: Choice<'_>) -> Result<Self> {
        let namings = config.chosen_namings(choice.naming)?;
        let mut meter = Params::empty(&Device::meter(), DType::F32);
        config.build(&mut meter)?;
        let dictionaries = Dictionaries::new(&file, meter.parameters(), choice.state_dict)?;
        let judge = Judge { config, file: &file, shapes: file.shapes(), namings: &namings };
        let mut trials = judge.all(dictionaries.candidates());
        if trials.iter().all(|trial| trial.misfits > 0) {
            trials.extend(judge.all(dictionaries.partial_candidates()));
        }
        let (taken, note) = take(&file.path().display().to_string(), trials)?;
        let file = file.select(&taken.candidate);
        let naming = namings.into_iter().nth(taken.naming);
        let naming = naming.ok_or_else(|| Error::invalid("--naming", "no naming is known"))?;
        Ok(Weights { file, naming, note })
    }

    /// The model with these weights.
    ///
    /// # Errors
    /// Of reading; and [`Error::Weights`] with every missing, unexpected and mis-shaped tensor.
    pub fn build(&self, config: &Config, device: &Device, dtype: DType) -> Result<Box<dyn Model>> {
        config.with_naming(device, dtype, &self.file, &*self.naming)
    }
}

/// A candidate that was tried on the model.
struct Trial {
    candidate: Candidate,
    /// The naming that fits it best.
    naming: usize,
    misfits: usize,
}

/// Tries candidates on a model.
struct Judge<'a> {
    config: &'a Config,
    file: &'a Checkpoint,
    shapes: BTreeMap<String, Vec<usize>>,
    namings: &'a [Box<dyn Naming>],
}

impl Judge<'_> {
    fn all(&self, candidates: Vec<Candidate>) -> Vec<Trial> {
        candidates.into_iter().filter_map(|candidate| self.one(candidate)).collect()
    }

    fn one(&self, candidate: Candidate) -> Option<Trial> {
        let view = View { file: self.file, shapes: &self.shapes, candidate: &candidate };
        let misfits = self.namings.iter().enumerate().map(|(i, naming)| (self.config.misfits(&view, &**naming), i));
        let (misfits, naming) = misfits.min()?;
        Some(Trial { candidate, naming, misfits })
    }
}

/// The tensors of a candidate under their new names.
struct View<'a> {
    file: &'a Checkpoint,
    shapes: &'a BTreeMap<String, Vec<usize>>,
    candidate: &'a Candidate,
}

impl TensorFile for View<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let names = self.candidate.names().iter();
        names.filter_map(|(new, old)| Some((new.clone(), self.shapes.get(old)?.clone()))).collect()
    }

    fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let old = self.candidate.names().get(name);
        self.file.load(old.ok_or_else(|| Error::invalid(name, "no such tensor in the checkpoint"))?, device)
    }

    fn unreadable(&self, name: &str) -> Option<&str> {
        self.file.unreadable_reason(self.candidate.names().get(name)?)
    }

    fn is_spare(&self, name: &str) -> bool {
        self.candidate.names().get(name).is_some_and(|old| self.file.is_spare(old))
    }
}

/// The best of the trials, and what is to be told of the choice.
fn take(path: &str, trials: Vec<Trial>) -> Result<(Trial, Option<String>)> {
    let least = trials.iter().map(|trial| trial.misfits).min().unwrap_or(0);
    let mut best: Vec<Trial> = Vec::new();
    for trial in trials.into_iter().filter(|trial| trial.misfits == least) {
        // The same tensors with a prefix more or less, which a naming takes off.
        if !best.iter().any(|other| trial.candidate.is_part_of(&other.candidate)) {
            best.push(trial);
        }
    }
    best.sort_by_key(|trial| rank(&trial.candidate.key));
    let keys: Vec<String> = best.iter().map(|trial| quoted(&trial.candidate.key)).collect();
    let is_tie = matches!(best.as_slice(), [a, b, ..] if rank(&a.candidate.key) == rank(&b.candidate.key));
    if is_tie && least == 0 {
        let message = format!("{path}: {} fit the model equally well: name one of them", keys.join(", "));
        return Err(Error::invalid("--state-dict", message));
    }
    let taken = best.into_iter().next().ok_or_else(|| Error::format(path, "the file holds no tensors under names"))?;
    let note = keys.split_first().filter(|(_, others)| !others.is_empty() && least == 0).map(|(first, others)| {
        let (why, others) = (Role::of(&taken.candidate.key).reason(), others.join(", "));
        let verb = if others.contains(", ") { "fit" } else { "fits" };
        format!("{path}: the weights are {first}{why}; {others} {verb}, too (--state-dict selects)")
    });
    Ok((taken, note))
}

fn quoted(key: &str) -> String {
    if key.is_empty() { "those outside of any dictionary".into() } else { format!("`{key}`") }
}

/// What the names of dictionaries say of their content, in the order in which it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Averaged,
    Raw,
    /// What learns from averaged weights, and the momentum encoder of contrastive learning.
    Student,
    Optimiser,
}

impl Role {
    fn of(key: &str) -> Self {
        let roles: Vec<Role> = key.split('.').map(Role::of_part).collect();
        let order = [Role::Optimiser, Role::Averaged, Role::Student];
        order.into_iter().find(|role| roles.contains(role)).unwrap_or(Role::Raw)
    }

    fn of_part(part: &str) -> Self {
        const OPTIMISER: [&str; 13] = [
            "optimizer",
            "optimizers",
            "optimiser",
            "optim",
            "opt",
            "adam",
            "exp",
            "sq",
            "buffer",
            "grad",
            "grads",
            "gradient",
            "gradients",
        ];
        const AVERAGED: [&str; 9] = ["ema", "teacher", "averaged", "average", "avg", "swa", "polyak", "shadow", "target"];
        const STUDENT: [&str; 4] = ["student", "momentum", "k", "key"];
        let words = words(part);
        let has = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
        if has(&OPTIMISER) {
            Role::Optimiser
        } else if has(&AVERAGED) {
            Role::Averaged
        } else if has(&STUDENT) {
            Role::Student
        } else {
            Role::Raw
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Role::Averaged => ", which is averaged",
            Role::Raw => ", by its name",
            Role::Student | Role::Optimiser => "",
        }
    }
}

/// The words of a key such as `model_ema` or `modelEMA`, in small letters.
fn words(part: &str) -> Vec<String> {
    let (mut words, mut was_lower) = (vec![String::new()], false);
    for c in part.chars() {
        if (was_lower && c.is_uppercase()) || !c.is_alphanumeric() {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// The place of a dictionary among those that fit, first to last. Equal ones are not told apart.
fn rank(key: &str) -> (Role, usize) {
    /// Usual names of weights, averaged and raw, the more usual first.
    const USUAL: [&str; 17] = [
        "state_dict_ema",
        "model_ema",
        "ema_state",
        "ema_model",
        "ema",
        "teacher",
        "",
        "state_dict",
        "model_state",
        "model_state_dict",
        "model",
        "module",
        "net",
        "network",
        "weights",
        "params",
        "parameters",
    ];
    let place = |part: &str| USUAL.iter().position(|usual| *usual == part).unwrap_or(USUAL.len());
    // The innermost name that is known; what is around it may be anything.
    let known = key.split('.').rev().map(place).min_by_key(|place| Reverse(usize::from(*place < USUAL.len())));
    (Role::of(key), known.unwrap_or(USUAL.len()))
}
