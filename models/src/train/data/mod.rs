//! What is learned from: clips with labels, by number.

pub mod check;
mod files;
mod folder;
mod list;
mod names;
mod procedural;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tubelet_engine::{DType, Device, Error, Philox, Result};

use crate::{
    params::Params,
    registry::{Config, Protocol},
    video::{Frames, Note, Sampling, Views},
};
pub use files::{Expected, Files};
pub use list::parse_list;
pub use names::Stored;
pub(super) use names::key as names_key;

/// A clip and its classes: one, or for multi-label sets any number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `[T, H, W, 3]`.
    pub frames: Frames,
    /// Class numbers.
    pub labels: Vec<usize>,
    /// What the user should know of the video.
    pub notes: Vec<Note>,
}

/// Several views of a clip, and its classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Viewing {
    /// `[T, H, W, 3]` each, the crops of the first clip first.
    pub clips: Vec<Frames>,
    /// Class numbers.
    pub labels: Vec<usize>,
    /// What the user should know of the video.
    pub notes: Vec<Note>,
}

/// Clips by number.
pub trait Dataset: Send + Sync {
    /// The number of classes.
    fn classes(&self) -> usize;
    /// The classes' names, if they have any.
    fn names(&self) -> Option<Vec<String>>;
    /// The number of clips; `None` where there is no end.
    fn size(&self) -> Option<u64>;
    /// What messages call clip `index`: the name of its file.
    fn describe(&self, index: u64) -> String;
    /// The classes of clip `index`, where they are known without reading it.
    fn labels(&self, _index: u64) -> Option<&[usize]> {
        None
    }
    /// Clip `index`. In training `rng` chooses the crop; in evaluation it is the central one.
    ///
    /// # Errors
    /// What cannot be read; the loader tells of it and goes on.
    fn sample(&self, index: u64, rng: Option<&mut Philox>) -> Result<Sample>;
    /// Several views of clip `index`, for evaluation; a set that has no more than one gives that one.
    ///
    /// # Errors
    /// As [`Dataset::sample`].
    fn views(&self, index: u64, _: Views) -> Result<Viewing> {
        let Sample { frames, labels, notes } = self.sample(index, None)?;
        Ok(Viewing { clips: vec![frames], labels, notes })
    }
}

/// A clip of a list or a class folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The video file, image, or folder of images.
    pub path: PathBuf,
    /// Class numbers, at least one.
    pub labels: Vec<usize>,
    /// The line of the list, counted from 1.
    pub line: Option<usize>,
}

/// Something about a data set that its user should know before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Files of a list are not there, and their clips are left out.
    Missing {
        /// How many.
        files: usize,
        /// Which, for people.
        text: String,
    },
    /// Anything else.
    Note(String),
}

impl Finding {
    /// Whether files are missing.
    pub fn is_missing(&self) -> bool {
        matches!(self, Finding::Missing { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Finding::Missing { text, .. } | Finding::Note(text)) = self;
        f.write_str(text)
    }
}

/// What a folder or a list says of its clips.
#[derive(Debug)]
struct Listing {
    entries: Vec<Entry>,
    /// Of the classes, where the set has names.
    names: Option<Vec<String>>,
    findings: Vec<Finding>,
}

/// Things of a kind that a message names; of more than these it says how many there are.
pub(super) const NAMED: usize = 20;

/// The first of `all`, and how many there are beyond.
fn first_few(all: &[String]) -> String {
    let shown = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > NAMED { format!("{shown} and {} more", all.len() - NAMED) } else { shown }
}

/// Where the data of a recipe comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Data {
    /// The procedural data set.
    CameraMotion {
        /// Of the training clips; the held-out ones are those of the next seed, and of another family.
        seed: u64,
        /// Clips to evaluate on.
        held_out: u64,
        /// Whether to take the motion away: the single-frame baseline.
        #[serde(default)]
        still: bool,
        /// A folder of pictures or videos, or one of them: what the held-out clips look at.
        #[serde(default)]
        pictures: Option<PathBuf>,
    },
    /// Video files: each a folder of class folders, or a list of lines `path label`.
    Files {
        /// To learn from.
        train: PathBuf,
        /// To evaluate on.
        #[serde(default)]
        validation: Option<PathBuf>,
        /// Whether clips have several labels (`3;17;25`): binary cross-entropy and mean average precision.
        #[serde(default)]
        multi_label: bool,
        /// Classes, where the list has them not all.
        #[serde(default)]
        classes: Option<usize>,
        /// Whether clips are images: one frame, of a video the first.
        #[serde(default)]
        images: bool,
    },
    /// Several sets at once, each with a head of its own: joint training on images and videos (TubeViT, section 3.5).
    Joint {
        /// The sets; every batch has clips of each.
        sets: Vec<JointSet>,
    },
}

/// One of several sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointSet {
    /// As the model calls it: its head's name.
    pub name: String,
    /// Its clips of each batch. The paper does not say how it mixes.
    pub clips: usize,
    /// Where they come from.
    pub data: Data,
}

/// A data set that was opened for training.
pub struct Set {
    /// Its name, where there are several.
    pub name: Option<String>,
    /// Its clips of each batch.
    pub clips: usize,
    /// To learn from.
    pub training: Arc<dyn Dataset>,
    /// To evaluate on.
    pub held_out: Option<Box<dyn Dataset>>,
    /// What the user should know of both.
    pub findings: Vec<Finding>,
}

/// A data set that was opened for evaluation.
pub struct HeldOut {
    /// Its name, where there are several.
    pub name: Option<String>,
    /// To evaluate on.
    pub data: Option<Box<dyn Dataset>>,
    /// What the user should know of it.
    pub findings: Vec<Finding>,
}

/// One of a recipe's sets, and the head that it is for.
struct Part<'a> {
    name: Option<&'a str>,
    clips: usize,
    data: &'a Data,
    /// The classes of its head.
    classes: usize,
}

impl Data {
    /// The sets, of whose clips a batch of `batch` is made, for a model. All labels are checked, and all missing files are found.
    ///
    /// # Errors
    /// Of reading folders and lists; and of labels and classes that are not the model's.
    pub fn open(&self, batch: usize, config: &Config) -> Result<Vec<Set>> {
        let open = |part: Part<'_>| {
            let (name, clips) = (part.name.map(str::to_owned), part.clips);
            if let Data::CameraMotion { .. } = part.data {
                let (training, held_out) = procedural::open(part.data, config.input(), part.classes)?;
                return Ok(Set {
                    name,
                    clips,
                    training: Arc::new(training),
                    held_out: Some(Box::new(held_out)),
                    findings: vec![],
                });
            }
            let (training, held_out) = part.files(config)?;
            let mut findings = training.findings().to_vec();
            // A list that is both is told of once.
            findings.extend(held_out.iter().filter(|set| set.name() != training.name()).flat_map(Files::findings).cloned());
            let held_out = held_out.map(|set| Box::new(set) as Box<dyn Dataset>);
            Ok(Set { name, clips, training: Arc::new(training), held_out, findings })
        };
        self.parts(batch, config)?.into_iter().map(open).collect()
    }

    /// The held-out clips of the sets, for the evaluation of weights that have these names of classes.
    /// Training clips are not needed; where their folder is there, its names have to be those of the weights.
    ///
    /// # Errors
    /// As [`Data::open`]; and where the names of classes differ from those of the weights.
    pub fn open_held_out(&self, config: &Config, stored: &Stored) -> Result<Vec<HeldOut>> {
        let open = |part: Part<'_>| {
            let (name, known) = (part.name.map(str::to_owned), stored.of(part.name, part.classes)?);
            let Data::Files { validation, .. } = part.data else {
                let (_, held_out) = procedural::open(part.data, config.input(), part.classes)?;
                if let (Some(known), Some(own)) = (known, held_out.names()) {
                    stored.check("the procedural data set", &own, known)?;
                }
                return Ok(HeldOut { name, data: Some(Box::new(held_out)), findings: vec![] });
            };
            let Some(validation) = validation else { return Ok(HeldOut { name, data: None, findings: vec![] }) };
            let known = part.known_names(config, stored, known)?;
            let files = part.validation(config, validation, known.as_deref())?;
            let findings = files.findings().to_vec();
            Ok(HeldOut { name, data: Some(Box::new(files)), findings })
        };
        self.parts(0, config)?.into_iter().map(open).collect()
    }

    /// All files of the sets, training clips first.
    ///
    /// # Errors
    /// As [`Data::open`]; and for clips that are drawn.
    pub fn files(&self, config: &Config) -> Result<Vec<Files>> {
        let mut all = Vec::new();
        for part in self.parts(0, config)? {
            let (training, held_out) = part.files(config)?;
            all.extend([training].into_iter().chain(held_out));
        }
        Ok(all)
    }

    fn parts(&self, batch: usize, config: &Config) -> Result<Vec<Part<'_>>> {
        let classes = config.build(&mut Params::empty(&Device::meter(), DType::F32))?.heads();
        let heads = self.heads(config)?;
        let sets = match self {
            Data::Joint { sets } => sets.iter().map(|set| (Some(set.name.as_str()), set.clips, &set.data)).collect(),
            single => vec![(None, batch, single)],
        };
        let part = |((name, clips, data), head): ((_, _, _), usize)| Part {
            name,
            clips,
            data,
            classes: classes.get(head).copied().unwrap_or(0),
        };
        Ok(sets.into_iter().zip(heads).map(part).collect())
    }

    /// The model's head of each set.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a set without one.
    pub fn heads(&self, config: &Config) -> Result<Vec<usize>> {
        let head = |name: &str| {
            let missing = || Error::invalid("data", format!("the model has no head for the set {name:?}"));
            config.head(name).ok_or_else(missing)
        };
        self.sets().into_iter().map(|(name, _)| name.map_or(Ok(0), head)).collect()
    }

    /// Of each set its name and whether its clips have several labels.
    pub fn sets(&self) -> Vec<(Option<&str>, bool)> {
        match self {
            Data::Joint { sets } => sets.iter().map(|set| (Some(set.name.as_str()), set.data.is_multi_label())).collect(),
            single => vec![(None, single.is_multi_label())],
        }
    }

    /// An error where a batch of `batch` clips, computed in `parts`, is not made of the sets' clips.
    pub fn validate(&self, batch: usize, parts: usize) -> Result<()> {
        let sets = match self {
            Data::Joint { sets } => sets,
            Data::CameraMotion { held_out: 0, .. } => {
                return Err(Error::invalid("data.held_out", "there must be clips to evaluate on"));
            }
            _ => return Ok(()),
        };
        let sum = sets.iter().fold(0usize, |sum, set| sum.saturating_add(set.clips));
        let problem = if sum != batch || sets.is_empty() {
            format!("the sets have {sum} clips of a batch, which has {batch}")
        } else if let Some(set) = sets.iter().find(|set| set.clips == 0 || !set.clips.is_multiple_of(parts)) {
            format!("the {} clips of {:?} are not a positive multiple of the {parts} parts", set.clips, set.name)
        } else if sets.iter().any(|set| matches!(set.data, Data::Joint { .. })) {
            "a joint set is made of single ones".to_owned()
        } else {
            return sets.iter().try_for_each(|set| set.data.validate(set.clips, parts));
        };
        Err(Error::invalid("data", problem))
    }

    fn is_multi_label(&self) -> bool {
        matches!(self, Data::Files { multi_label: true, .. })
    }
}

impl Part<'_> {
    /// Training and validation clips. The training set numbers the classes.
    fn files(&self, config: &Config) -> Result<(Files, Option<Files>)> {
        let Data::Files { train, validation, classes, .. } = self.data else {
            return Err(Error::invalid("data", "the clips of the recipe are not files"));
        };
        let mut training = self.open(config, train, None)?;
        training.check_classes(*classes, self.classes)?;
        let held_out = validation.as_deref().map(|path| self.validation(config, path, training.class_names())).transpose()?;
        Ok((training, held_out))
    }

    /// Validation clips, whose class folders are matched with `known` names.
    fn validation(&self, config: &Config, path: &Path, known: Option<&[String]>) -> Result<Files> {
        if path.is_dir() && known.is_none() {
            let message = "it has class folders, but the classes of the training set have no names that are known: what numbers \
                           the folders have is not known. Use a list of lines `path label`, or class folders for both";
            return Err(Error::format(path.display().to_string(), message));
        }
        self.open(config, path, known)
    }

    /// The names of the classes by number for an evaluation: those of the weights, or those of the training folder.
    fn known_names(&self, config: &Config, stored: &Stored, known: Option<&[String]>) -> Result<Option<Vec<String>>> {
        let Data::Files { train, classes, .. } = self.data else { return Ok(None) };
        if !train.is_dir() {
            return Ok(known.map(<[String]>::to_vec));
        }
        let own = folder::names(train)?;
        match known {
            Some(known) => {
                stored.check(&train.display().to_string(), &own, known)?;
                Ok(Some(known.to_vec()))
            }
            None => {
                let mut training = self.open(config, train, None)?;
                training.check_classes(*classes, self.classes)?;
                Ok(training.class_names().map(<[String]>::to_vec))
            }
        }
    }

    fn open(&self, config: &Config, path: &Path, names: Option<&[String]>) -> Result<Files> {
        let Data::Files { multi_label, images, .. } = self.data else {
            return Err(Error::invalid("data", "the clips of the recipe are not files"));
        };
        let protocol = config.protocol();
        let sampling = if *images { Sampling::Dense { frames: 1, stride: 1 } } else { protocol.sampling };
        // How many classes a training folder has is told by their names, not by the first clip beyond the model's.
        let classes = (!path.is_dir() || names.is_some()).then_some(self.classes);
        let expected = Expected { classes, names, multi_label: *multi_label };
        Files::open(path, Protocol { sampling, ..protocol }, &expected)
    }
}
