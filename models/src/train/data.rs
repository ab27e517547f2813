//! What is learned from: clips with labels, by number.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tubelet_engine::{Error, Philox, Result};

use super::camera_motion::{self, CameraMotion, Pictures};
use crate::{
    model::Input,
    registry::Protocol,
    video::{self, Frames, Geometry, Limit, Sampling, Views},
};

/// A clip and its classes: one, or for multi-label sets any number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// `[T, H, W, 3]`.
    pub frames: Frames,
    /// Class numbers.
    pub labels: Vec<usize>,
}

/// Clips by number.
pub trait Dataset: Send + Sync {
    /// The number of classes.
    fn classes(&self) -> usize;
    /// The classes' names, if they have any.
    fn names(&self) -> Option<Vec<String>>;
    /// The number of clips; `None` where there is no end.
    fn size(&self) -> Option<u64>;
    /// Clip `index`. In training `rng` chooses the crop; in evaluation it is the central one.
    ///
    /// # Errors
    /// What cannot be read; the loader counts it and goes on.
    fn sample(&self, index: u64, rng: Option<&mut Philox>) -> Result<Sample>;
    /// Several views of clip `index`, for evaluation; a set that has no more than one gives that one.
    ///
    /// # Errors
    /// As [`Dataset::sample`].
    fn views(&self, index: u64, _: Views) -> Result<Vec<Sample>> {
        Ok(vec![self.sample(index, None)?])
    }
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

/// A data set that was opened.
pub struct Set {
    /// Its name, where there are several.
    pub name: Option<String>,
    /// Its clips of each batch.
    pub clips: usize,
    /// To learn from.
    pub training: Arc<dyn Dataset>,
    /// To evaluate on.
    pub held_out: Option<Box<dyn Dataset>>,
}

impl Data {
    /// The sets, of whose clips a batch of `batch` is made, for a model's input.
    ///
    /// # Errors
    /// Of reading folders and lists.
    pub fn open(&self, batch: usize, input: &Input, protocol: &Protocol) -> Result<Vec<Set>> {
        match self {
            Data::Joint { sets } => sets.iter().map(|set| set.data.single(Some(&set.name), set.clips, input, protocol)).collect(),
            single => Ok(vec![single.single(None, batch, input, protocol)?]),
        }
    }

    fn single(&self, name: Option<&str>, clips: usize, input: &Input, protocol: &Protocol) -> Result<Set> {
        let name = name.map(str::to_owned);
        match self {
            Data::CameraMotion { seed, held_out, still, pictures } => {
                let set = |set: CameraMotion, size| Procedural {
                    set: CameraMotion { still: *still, ..set },
                    size,
                    input: input.clone(),
                };
                let pictures = pictures.as_deref().map(Pictures::open).transpose()?.unwrap_or_default();
                let held_out_set = CameraMotion { pictures, ..CameraMotion::held_out(seed + 1) };
                let training = Arc::new(set(CameraMotion::training(*seed), None));
                Ok(Set { name, clips, training, held_out: Some(Box::new(set(held_out_set, Some(*held_out)))) })
            }
            Data::Files { train, validation, classes, images, .. } => {
                let sampling = if *images { Sampling::Dense { frames: 1, stride: 1 } } else { protocol.sampling };
                let open = |path: &Path| -> Result<Files> { Files::open(path, Protocol { sampling, ..*protocol }) };
                let (mut training, mut held_out) = (open(train)?, validation.as_deref().map(open).transpose()?);
                let known = held_out.as_ref().map_or(0, |set| set.classes).max(training.classes);
                let most = known.max(classes.unwrap_or(0));
                training.classes = most;
                held_out.iter_mut().for_each(|set| set.classes = most);
                let held_out = held_out.map(|set| Box::new(set) as Box<dyn Dataset>);
                Ok(Set { name, clips, training: Arc::new(training), held_out })
            }
            Data::Joint { .. } => Err(Error::invalid("data", "a joint set is made of single ones")),
        }
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
        let Data::Joint { sets } = self else { return Ok(()) };
        let sum = sets.iter().fold(0usize, |sum, set| sum.saturating_add(set.clips));
        let problem = if sum != batch || sets.is_empty() {
            format!("the sets have {sum} clips of a batch, which has {batch}")
        } else if let Some(set) = sets.iter().find(|set| set.clips == 0 || !set.clips.is_multiple_of(parts)) {
            format!("the {} clips of {:?} are not a positive multiple of the {parts} parts", set.clips, set.name)
        } else if sets.iter().any(|set| matches!(set.data, Data::Joint { .. })) {
            "a joint set is made of single ones".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::invalid("data", problem))
    }

    fn is_multi_label(&self) -> bool {
        matches!(self, Data::Files { multi_label: true, .. })
    }
}

/// [`CameraMotion`] at a model's size.
struct Procedural {
    set: CameraMotion,
    size: Option<u64>,
    input: Input,
}

impl Dataset for Procedural {
    fn classes(&self) -> usize {
        camera_motion::CLASSES.len()
    }

    fn names(&self) -> Option<Vec<String>> {
        Some(camera_motion::CLASSES.map(String::from).to_vec())
    }

    fn size(&self) -> Option<u64> {
        self.size
    }

    fn sample(&self, index: u64, _: Option<&mut Philox>) -> Result<Sample> {
        let (frames, class) = self.set.clip(index, self.input.frames, self.input.size)?;
        Ok(Sample { frames, labels: vec![class] })
    }
}

/// Video files.
pub struct Files {
    entries: Vec<(PathBuf, Vec<usize>)>,
    names: Option<Vec<String>>,
    classes: usize,
    protocol: Protocol,
}

impl Files {
    /// A folder of class folders, in alphabetical order, or a list file, whose paths are relative to it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] with the number of a line that is not `path label`; an empty set.
    pub fn open(path: &Path, protocol: Protocol) -> Result<Self> {
        let mut set = if path.is_dir() { Files::folder(path, protocol)? } else { Files::list(path, protocol)? };
        if set.entries.is_empty() {
            return Err(Error::format(
                path.display().to_string(),
                "no videos: expected class folders with files, or lines `path label`",
            ));
        }
        let most = set.entries.iter().flat_map(|(_, labels)| labels).max().map_or(0, |most| most + 1);
        set.classes = set.classes.max(most);
        Ok(set)
    }

    fn folder(path: &Path, protocol: Protocol) -> Result<Self> {
        let listing = |path: &Path| -> Result<Vec<PathBuf>> {
            let entries = fs::read_dir(path).map_err(Error::io(path))?;
            let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(Error::io(path))?;
            paths.sort();
            Ok(paths)
        };
        let (mut entries, mut names) = (Vec::new(), Vec::new());
        for class in listing(path)?.into_iter().filter(|path| path.is_dir()) {
            entries.extend(listing(&class)?.into_iter().map(|file| (file, vec![names.len()])));
            names.push(class.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        Ok(Files { entries, classes: names.len(), names: Some(names), protocol })
    }

    fn list(path: &Path, protocol: Protocol) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io(path))?;
        let beside = path.parent().unwrap_or(Path::new(""));
        let entries = parse_list(&path.display().to_string(), &text)?;
        let entries = entries.into_iter().map(|(file, labels)| (beside.join(file), labels)).collect();
        Ok(Files { entries, names: None, classes: 0, protocol })
    }
}

/// The lines `path label` of a list, the label last, after a space or a comma; several labels as `3;17`. Empty lines and those that start
/// with `#` are skipped. `what` names the file in errors.
///
/// # Errors
/// [`Error::Format`] with the number of the first line that is something else.
pub fn parse_list(what: &str, text: &str) -> Result<Vec<(PathBuf, Vec<usize>)>> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    let wanted = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let entry = |(number, line): (usize, &str)| {
        let misfit = || Error::format(what, format!("line {number}: expected `path label`, got {line:?}"));
        let (path, labels) = line.rsplit_once([' ', ',', '\t']).ok_or_else(misfit)?;
        let labels = labels.split(';').map(|label| label.parse().ok()).collect::<Option<Vec<usize>>>().ok_or_else(misfit)?;
        let path = path.trim_end_matches([' ', ',', '\t']);
        if path.is_empty() { Err(misfit()) } else { Ok((PathBuf::from(path), labels)) }
    };
    wanted.map(entry).collect()
}

/// Decoders at a time, whatever the number of threads that make batches: each has frames of the size
/// of the video in memory, and so does the thread that reads from it.
const AT_A_TIME: usize = 2;
static DECODERS: Limit = Limit::new(AT_A_TIME);

/// How clips are read: decoders that run at the same time share the processors.
fn reading() -> video::Options {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    video::Options { threads: Some((processors / AT_A_TIME).clamp(1, 8)), ..video::Options::default() }
}

/// Clips to choose from in training: so many places along a video.
const PLACES: usize = 8;

impl Dataset for Files {
    fn classes(&self) -> usize {
        self.classes
    }

    fn names(&self) -> Option<Vec<String>> {
        self.names.clone()
    }

    fn size(&self) -> Option<u64> {
        Some(self.entries.len() as u64)
    }

    fn sample(&self, index: u64, rng: Option<&mut Philox>) -> Result<Sample> {
        let (path, labels) = &self.entries[(index % self.entries.len() as u64) as usize];
        let _place = DECODERS.take();
        let mut source = video::open_with(path, &reading())?;
        let Protocol { sampling, geometry, .. } = &self.protocol;
        let frames = match rng {
            None => video::views(&mut *source, sampling, geometry, Views::CENTRE)?.clips,
            Some(rng) => random_clip(&mut *source, sampling, geometry.output(), rng)?,
        };
        let frames = frames.into_iter().next().ok_or_else(|| Error::format(path.display().to_string(), "no clip"))?;
        Ok(Sample { frames, labels: labels.clone() })
    }

    fn views(&self, index: u64, views: Views) -> Result<Vec<Sample>> {
        let (path, labels) = &self.entries[(index % self.entries.len() as u64) as usize];
        let Protocol { sampling, geometry, .. } = &self.protocol;
        let _place = DECODERS.take();
        let all = video::views(&mut *video::open_with(path, &reading())?, sampling, geometry, views)?;
        Ok(all.clips.into_iter().map(|frames| Sample { frames, labels: labels.clone() }).collect())
    }
}

/// One of several places along a video, in frames whose short side is 1 to 1.25 times the crop's
/// (scale jitter), and a crop at a random place, the same for all frames.
fn random_clip(
    source: &mut dyn video::Source,
    sampling: &Sampling,
    [height, width]: [usize; 2],
    rng: &mut Philox,
) -> Result<Vec<Frames>> {
    let name = source.name().to_owned();
    let place = rng.below(PLACES);
    let choose = |timeline: &video::Timeline| Ok(vec![sampling.clips(timeline, PLACES)?.swap_remove(place)]);
    let short = (height.max(width) as f32 * (1.0 + 0.25 * rng.uniform())) as usize;
    let mut first = None;
    let mut plan = |frame_width: usize, frame_height: usize| {
        let size = (frame_width, frame_height);
        let (known, plan) = match first.take() {
            Some(drawn) => drawn,
            None => {
                let mut plan = Geometry::ShortSide { short, crop: [height, width] }.plan(frame_width, frame_height, 1)?;
                let x = rng.below(plan.width.saturating_sub(width) + 1);
                let y = rng.below(plan.height.saturating_sub(height) + 1);
                plan.crops = vec![video::Rect { x, y, width, height }];
                (size, plan)
            }
        };
        first = Some((known, plan.clone()));
        if known == size {
            return Ok(plan);
        }
        let message = format!("frames of {frame_width}×{frame_height} follow frames of {}×{}", known.0, known.1);
        Err(Error::format(&name, message))
    };
    video::read_clips(source, &choose, [height, width], &mut plan)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_are_paths_and_labels() {
        let parsed = parse_list("list", "# comment\na b.mp4 3\n\nc.mp4,1;4\n d\t0").unwrap();
        let expected = [("a b.mp4", vec![3]), ("c.mp4", vec![1, 4]), ("d", vec![0])];
        assert_eq!(parsed, expected.map(|(path, labels)| (PathBuf::from(path), labels)));
        for (line, text) in [(1, "no-label"), (2, "a 1\nb x"), (1, " 3"), (1, "a -1"), (3, "a 1\n\nb 1;")] {
            let error = parse_list("list", text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")), "{error}");
        }
    }
}
