//! Clips in files.

use std::{collections::BTreeMap, path::Path};

use tubelet_engine::{Error, Philox, Result};

use super::{Dataset, Entry, Finding, Listing, Sample, Viewing, first_few, folder, list, names};
use crate::{
    registry::Protocol,
    video::{self, Frames, Geometry, Limit, Sampling, Views},
};

/// What the labels of a set have to fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// The classes of the model, if there is one.
    pub classes: Option<usize>,
    /// The names of the classes by number, if they are known: class folders are matched by name.
    pub names: Option<&'a [String]>,
    /// Whether clips may have several labels.
    pub multi_label: bool,
}

/// Video files with labels.
pub struct Files {
    name: String,
    entries: Vec<Entry>,
    names: Option<Vec<String>>,
    classes: usize,
    protocol: Protocol,
    findings: Vec<Finding>,
}

impl Files {
    /// A folder of class folders, or a list file, whose paths are relative to it. Files that are not
    /// there are left out; [`Files::findings`] tells of them.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for a line that is not `path label`, with its number; for labels that
    /// are not `expected`; and for a set of which no file is there.
    pub fn open(path: &Path, protocol: Protocol, expected: &Expected<'_>) -> Result<Self> {
        let name = path.display().to_string();
        let Listing { mut entries, names, mut findings } = if path.is_dir() { folder::read(path)? } else { list::read(path)? };
        let names = match (names, expected.names) {
            (Some(own), Some(known)) => {
                let numbers = names::numbers(&name, &own, known)?;
                entries.iter_mut().flat_map(|entry| &mut entry.labels).for_each(|label| *label = numbers[*label]);
                let absent = names::lacking(known, &own);
                if !absent.is_empty() {
                    findings.push(Finding::Note(format!("{name}: no folder for the classes {}", absent.join(", "))));
                }
                Some(known.to_vec())
            }
            (own, known) => own.or(known.map(<[String]>::to_vec)),
        };
        check_labels(&name, &entries, expected)?;
        let most = entries.iter().flat_map(|entry| &entry.labels).max().map_or(0, |&most| most.saturating_add(1));
        let classes = most.max(names.as_ref().map_or(0, Vec::len));
        let missing = missing(&name, &mut entries, names.as_deref());
        if entries.is_empty() {
            let message = missing.map_or_else(
                || "no videos: expected class folders with files, or lines `path label`".to_owned(),
                |finding| format!("none of the files is there; {finding}"),
            );
            return Err(Error::format(name, message));
        }
        findings.extend(missing);
        Ok(Files { name, entries, names, classes, protocol, findings })
    }

    /// What the user should know of the set.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The folder or list.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The clips that are there.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The names of classes by number, of which a set that lacks some classes has fewer than a model.
    pub(super) fn class_names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    /// How frames are chosen.
    pub fn sampling(&self) -> &Sampling {
        &self.protocol.sampling
    }

    /// Checks that a training set has all classes of the model. With `given`, a recipe says how many
    /// classes there are, and that the set need not have clips of each.
    ///
    /// # Errors
    /// [`Error::Format`] with the names of the classes.
    pub(super) fn check_classes(&mut self, given: Option<usize>, model: usize) -> Result<()> {
        if let Some(given) = given.filter(|given| *given != model) {
            return Err(Error::invalid("data.classes", format!("the recipe says {given} classes, the model has {model}")));
        }
        if self.classes == model || (given.is_some() && self.classes < model) {
            self.classes = model;
            return Ok(());
        }
        let which = match &self.names {
            Some(names) => format!(" ({})", names.join(", ")),
            None => format!(" (labels up to {})", self.classes.saturating_sub(1)),
        };
        let hint =
            if self.classes < model { "; \"classes\" in the recipe says that the data does not have them all" } else { "" };
        let message = format!("it has {} classes{which}, the model has {model}{hint}", self.classes);
        Err(Error::format(&self.name, message))
    }

    fn entry(&self, index: u64) -> Result<&Entry> {
        let found = usize::try_from(index).ok().and_then(|index| self.entries.get(index));
        found.ok_or_else(|| {
            Error::invalid("clip", format!("{} has {} clips, there is no clip {index}", self.name, self.entries.len()))
        })
    }
}

/// Checks every label before anything is computed.
fn check_labels(name: &str, entries: &[Entry], expected: &Expected<'_>) -> Result<()> {
    let place = |entry: &Entry| match entry.line {
        Some(line) => format!("{name}, line {line}"),
        None => entry.path.display().to_string(),
    };
    let several = |entry: &&Entry| !expected.multi_label && entry.labels.len() > 1;
    if let Some(entry) = entries.iter().find(several) {
        let labels = entry.labels.iter().map(usize::to_string).collect::<Vec<_>>().join(";");
        let message = format!(
            "{} labels ({labels}), but several labels need `\"multi_label\": true` in the recipe's data",
            entry.labels.len()
        );
        return Err(Error::format(place(entry), message));
    }
    let Some(classes) = expected.classes else { return Ok(()) };
    for entry in entries {
        let Some(&label) = entry.labels.iter().find(|&&label| label >= classes) else { continue };
        let all = || entries.iter().flat_map(|entry| &entry.labels);
        let from_1 = all().min() == Some(&1) && all().max() == Some(&classes);
        let hint = if from_1 { "; labels seem to be counted from 1" } else { "" };
        let message = format!("label {label}, but the model has {classes} classes (0 to {}){hint}", classes.saturating_sub(1));
        return Err(Error::format(place(entry), message));
    }
    Ok(())
}

/// Takes out the clips whose files are not there, and tells of them: by name, by class, and of which
/// classes nothing is left.
fn missing(name: &str, entries: &mut Vec<Entry>, names: Option<&[String]>) -> Option<Finding> {
    let mut classes = BTreeMap::<usize, [usize; 2]>::new();
    let (all, mut gone) = (entries.len(), Vec::new());
    entries.retain(|entry| {
        let is_there = entry.path.exists();
        for &label in &entry.labels {
            let [total, missing] = classes.entry(label).or_default();
            *total += 1;
            *missing += usize::from(!is_there);
        }
        if !is_there {
            let line = entry.line.map(|line| format!(" (line {line})")).unwrap_or_default();
            gone.push(format!("{}{line}", entry.path.display()));
        }
        is_there
    });
    let class = |label: usize| names.and_then(|names| names.get(label)).cloned().unwrap_or_else(|| label.to_string());
    let counts = classes.iter().filter(|(_, [_, missing])| *missing > 0);
    let counts: Vec<String> = counts.map(|(&label, [all, gone])| format!("{gone} of {all} of class {}", class(label))).collect();
    let lost = classes.iter().filter(|(_, [all, missing])| all == missing);
    let lost: Vec<String> = lost.map(|(&label, _)| class(label)).collect();
    let nothing = if lost.is_empty() { String::new() } else { format!("; no clip is left of class {}", lost.join(", ")) };
    let text = format!(
        "{name}: {} of {all} files are missing: {}; that is {}{nothing}",
        gone.len(),
        first_few(&gone),
        first_few(&counts)
    );
    (!gone.is_empty()).then_some(Finding::Missing { files: gone.len(), text })
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
        self.names.clone().filter(|names| names.len() == self.classes)
    }

    fn size(&self) -> Option<u64> {
        Some(self.entries.len() as u64)
    }

    fn describe(&self, index: u64) -> String {
        self.entry(index).map_or_else(|_| format!("clip {index}"), |entry| entry.path.display().to_string())
    }

    fn labels(&self, index: u64) -> Option<&[usize]> {
        self.entry(index).ok().map(|entry| entry.labels.as_slice())
    }

    fn sample(&self, index: u64, rng: Option<&mut Philox>) -> Result<Sample> {
        let Entry { path, labels, .. } = self.entry(index)?;
        let _place = DECODERS.take();
        let mut source = video::open_with(path, &reading())?;
        let Protocol { sampling, geometry, .. } = &self.protocol;
        let (frames, notes) = match rng {
            None => {
                let viewed = video::views(&mut *source, sampling, geometry, Views::CENTRE)?;
                (viewed.clips, viewed.notes)
            }
            Some(rng) => {
                let frames = random_clip(&mut *source, sampling, geometry.output(), rng)?;
                (frames, video::read_notes(&mut *source, sampling)?)
            }
        };
        let frames = frames.into_iter().next().ok_or_else(|| Error::format(path.display().to_string(), "no clip"))?;
        Ok(Sample { frames, labels: labels.clone(), notes })
    }

    fn views(&self, index: u64, views: Views) -> Result<Viewing> {
        let Entry { path, labels, .. } = self.entry(index)?;
        let Protocol { sampling, geometry, .. } = &self.protocol;
        let _place = DECODERS.take();
        let viewed = video::views(&mut *video::open_with(path, &reading())?, sampling, geometry, views)?;
        Ok(Viewing { clips: viewed.clips, labels: labels.clone(), notes: viewed.notes })
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
    use crate::registry::Config;

    fn open(text: &str, expected: &Expected<'_>) -> Result<Files> {
        let here = std::env::temp_dir().join(format!("tubelet-files-{}", std::process::id()));
        std::fs::create_dir_all(&here).unwrap();
        for i in 0..4 {
            std::fs::write(here.join(format!("{i}.y4m")), "x").unwrap();
        }
        let list = here.join(format!("{:?}.txt", std::thread::current().id()));
        std::fs::write(&list, text).unwrap();
        Files::open(&list, Config::named("vivit-tiny").unwrap().protocol(), expected)
    }

    #[test]
    fn labels_that_do_not_fit_are_refused_with_their_line() {
        let expected = Expected { classes: Some(2), ..Expected::default() };
        let error = |text: &str| open(text, &expected).err().unwrap().to_string();
        let from_1 = error("0.y4m 1\n1.y4m 1\n\n2.y4m 2");
        assert!(from_1.contains("line 4: label 2, but the model has 2 classes (0 to 1)"), "{from_1}");
        assert!(from_1.contains("counted from 1"), "{from_1}");
        assert!(!error("0.y4m 0\n1.y4m 7").contains("counted from 1"));
        assert!(error("0.y4m 0\n1.y4m 0;1").contains("line 2: 2 labels (0;1)"));
        let several = Expected { multi_label: true, ..expected };
        assert_eq!(open("0.y4m 0;1", &several).unwrap().classes(), 2);
        assert!(error("# nothing\n").contains("no videos"));
        // Labels are checked although the file is missing.
        assert!(error("0.y4m 0\ngone.y4m 5").contains("line 2"));
    }

    #[test]
    fn missing_files_are_named_and_counted_by_class() {
        let files = open("0.y4m 0\n8.y4m 1\n9.y4m 1\n7.y4m 0", &Expected::default()).unwrap();
        assert_eq!((files.size(), files.classes()), (Some(1), 2));
        let [Finding::Missing { files: 3, text }] = files.findings() else { panic!("{:?}", files.findings()) };
        assert!(text.contains("3 of 4 files are missing") && text.contains("8.y4m (line 2)"), "{text}");
        assert!(text.ends_with("1 of 2 of class 0, 2 of 2 of class 1; no clip is left of class 1"), "{text}");
        let error = open("8.y4m 0\n9.y4m 1", &Expected::default()).err().unwrap().to_string();
        assert!(error.contains("none of the files is there"), "{error}");
    }
}
