//! Reading all clips of a data set to see which are not as they should be.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde::Serialize;
use tubelet_engine::{Error, Result};

use super::{Entry, Files};
use crate::video::{self, Note, Options, Sampling, Source, Timeline};

/// What is wrong with a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It cannot be read.
    Unreadable,
    /// A part of it cannot be decoded.
    Damaged,
    /// It has fewer frames than are wanted.
    Short,
    /// The times of its frames are unusual.
    Timestamps,
}

impl Kind {
    /// Whether frames are lost. Other clips are used as they are.
    pub fn is_defect(self) -> bool {
        matches!(self, Kind::Unreadable | Kind::Damaged)
    }

    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Unreadable => "unreadable",
            Kind::Damaged => "damaged",
            Kind::Short => "short",
            Kind::Timestamps => "timestamps",
        }
    }
}

/// A problem of a clip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// The file; what is not UTF-8 in its name is replaced.
    pub clip: String,
    /// The line of the list, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What it is.
    pub kind: Kind,
    /// More of it.
    pub message: String,
}

/// How clips are checked.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Whether clips are only opened and their times read, instead of decoding every frame.
    pub quick: bool,
    /// Whether a clip has to be as long as the model's sampling wants; otherwise it needs two frames.
    pub sampled: bool,
    /// Clips that are read at a time.
    pub threads: usize,
}

/// Reads the clips of a set, several at a time. The problems are in the order of the clips.
/// `progress` is called once for each clip, from any thread.
///
/// # Errors
/// Where no thread can be started.
pub fn check(files: &Files, how: Check, progress: &(dyn Fn() + Sync)) -> Result<Vec<Problem>> {
    let (entries, next) = (files.entries(), AtomicUsize::new(0));
    let sampling = how.sampled.then(|| *files.sampling());
    let work = || {
        let mut found = Vec::new();
        while let Some((at, entry)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, entries.get(at)?))) {
            found.extend(problems(entry, how.quick, sampling.as_ref()).into_iter().map(|problem| (at, problem)));
            progress();
        }
        found
    };
    let mut found = thread::scope(|scope| -> Result<Vec<_>> {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work);
        let failed = |message: String| Error::Device { device: "host".into(), message };
        let threads = how.threads.clamp(1, entries.len().max(1));
        let threads: Vec<_> =
            (0..threads).map(start).collect::<Result<_, _>>().map_err(|error| failed(format!("no thread: {error}")))?;
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| failed("a thread that reads clips ended".into()))?);
        }
        Ok(all)
    })?;
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, problem)| problem).collect())
}

/// What is wrong with a clip.
fn problems(entry: &Entry, quick: bool, sampling: Option<&Sampling>) -> Vec<Problem> {
    let clip = entry.path.display().to_string();
    let problem = |kind: Kind, message: String| {
        // Errors of files begin with the name of the file.
        let message = message.strip_prefix(&format!("{clip}: ")).map(str::to_owned).unwrap_or(message);
        Problem { clip: clip.clone(), line: entry.line, kind, message }
    };
    match read(&entry.path, quick) {
        Err(error) => vec![problem(Kind::Unreadable, error.to_string())],
        Ok((timeline, notes)) => {
            let damages = notes.iter().filter_map(|note| match note {
                Note::Damaged(damage) => Some(problem(Kind::Damaged, damage.to_string())),
                Note::Short(_) | Note::Assumed(_) => None,
            });
            let short = shortfall(&timeline, sampling).map(|text| problem(Kind::Short, text));
            // A clip of one frame has no times to speak of.
            let unusual = if timeline.len() > 1 { timeline.peculiarity() } else { None };
            let unusual = unusual.map(|text| problem(Kind::Timestamps, text));
            damages.chain(short).chain(unusual).collect()
        }
    }
}

/// Why a clip is too short, if it is.
fn shortfall(timeline: &Timeline, sampling: Option<&Sampling>) -> Option<String> {
    match sampling {
        Some(sampling) => sampling.shortfall(timeline),
        None if timeline.len() < 2 => Some(format!("it has {} frame", timeline.len())),
        None => None,
    }
}

/// The times of a video, and what there is to say of it after all frames were decoded.
fn read(path: &Path, quick: bool) -> Result<(Timeline, Vec<Note>)> {
    let mut source = video::open_with(path, &Options { threads: Some(1), ..Options::default() })?;
    let before = source.timeline()?.clone();
    if !quick {
        match decode(&mut *source, &before) {
            // Decoding shows how many frames a video has that was cut off.
            Err(error) if *source.timeline()? == before => return Err(error),
            Err(_) => {
                let known = source.timeline()?.clone();
                decode(&mut *source, &known)?;
            }
            Ok(()) => {}
        }
    }
    let timeline = source.timeline()?.clone();
    if timeline.is_empty() {
        return Err(Error::format(path.display().to_string(), "the video has no frames"));
    }
    Ok((timeline, source.notes()))
}

fn decode(source: &mut dyn Source, timeline: &Timeline) -> Result<()> {
    source.visit(&(0..timeline.len()).collect::<Vec<_>>(), &mut |_| Ok(()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::{super::Expected, *};
    use crate::registry::Config;

    fn y4m(frames: usize, rest: &str) -> Vec<u8> {
        let mut y4m = b"YUV4MPEG2 W4 H4 F25:1 C444\n".to_vec();
        for _ in 0..frames {
            y4m.extend_from_slice(b"FRAME\n");
            y4m.extend([128u8; 48]);
        }
        y4m.extend_from_slice(rest.as_bytes());
        y4m
    }

    #[test]
    fn problems_come_in_the_order_of_the_clips() {
        let here = std::env::temp_dir().join(format!("tubelet-check-{}", std::process::id()));
        fs::create_dir_all(here.join("class")).unwrap();
        for (name, content) in
            [("1", vec![]), ("2", y4m(5, "")), ("3", y4m(1, "")), ("4", y4m(3, "FRAME\nshort")), ("5", y4m(64, ""))]
        {
            fs::write(here.join(format!("class/{name}.y4m")), content).unwrap();
        }
        let protocol = Config::named("vivit-tiny").unwrap().protocol();
        let files = Files::open(&here, protocol, &Expected::default()).unwrap();
        let found = |quick, sampled| -> Vec<(String, Kind)> {
            let problems = check(&files, Check { quick, sampled, threads: 3 }, &|| {}).unwrap();
            problems.into_iter().map(|p| (Path::new(&p.clip).file_stem().unwrap().to_str().unwrap().to_owned(), p.kind)).collect()
        };
        let expected = |list: &[(&str, Kind)]| list.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect::<Vec<_>>();
        use Kind::{Damaged, Short, Unreadable};
        assert_eq!(found(false, false), expected(&[("1", Unreadable), ("3", Short), ("4", Damaged)]));
        assert_eq!(found(false, true), expected(&[("1", Unreadable), ("2", Short), ("3", Short), ("4", Damaged), ("4", Short)]));
        assert!(found(true, false).contains(&("1".into(), Unreadable)));
        fs::remove_dir_all(here).unwrap();
    }
}
