//! What is told of clips that are left out, and of clips that are used although something is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tubelet_engine::{Error, Result};

use super::data::{Dataset, Finding, NAMED};
use crate::video::Note;

/// Something that the user should know of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The number of the clip in its set.
    pub index: u64,
    /// The file.
    pub clip: String,
    /// What happened.
    pub what: What,
}

/// What happened to a clip.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// It could not be read, and was left out for this reason.
    Skipped(String),
    /// It is used, but something is unusual.
    Noted(Note),
}

impl Record {
    pub(super) fn skipped(data: &dyn Dataset, index: u64, error: &Error) -> Self {
        let (clip, reason) = (data.describe(index), error.to_string());
        // Errors of files begin with the name of the file.
        let reason = reason.strip_prefix(&format!("{clip}: ")).map(str::to_owned).unwrap_or(reason);
        Record { index, clip, what: What::Skipped(reason) }
    }

    pub(super) fn note(data: &dyn Dataset, index: u64, note: Note) -> Self {
        Record { index, clip: data.describe(index), what: What::Noted(note) }
    }

    /// The reason for which the clip was left out, if it was.
    pub fn reason(&self) -> Option<&str> {
        match &self.what {
            What::Skipped(reason) => Some(reason),
            What::Noted(_) => None,
        }
    }

    /// An error where the clip was left out or is damaged: with `--strict` these are not accepted.
    ///
    /// # Errors
    /// [`Error::Format`] with the file and the reason.
    pub fn refuse(&self) -> Result<()> {
        match &self.what {
            What::Noted(Note::Short(_) | Note::Assumed(_)) => Ok(()),
            What::Noted(Note::Damaged(damage)) => Err(Error::format(&self.clip, format!("{damage} (--strict)"))),
            What::Skipped(reason) => Err(Error::format(&self.clip, format!("{reason} (--strict)"))),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Skipped(reason) => write!(f, "{}: left out: {reason}", self.clip),
            What::Noted(note) => write!(f, "{}: {note}", self.clip),
        }
    }
}

/// Refuses a data set with missing files, where `strict` says so.
///
/// # Errors
/// [`Error::Format`] that names the files.
pub fn refuse_missing(findings: &[Finding], strict: bool) -> Result<()> {
    let missing = findings.iter().filter(|finding| strict && finding.is_missing());
    missing.take(1).try_for_each(|finding| Err(Error::format("data (--strict)", finding.to_string())))
}

/// The clips of one data set of which something was told. Each clip is told and counted once, however
/// often it is read.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What the set is called in messages.
    name: String,
    skipped: BTreeMap<u64, Record>,
    noted: BTreeSet<(u64, String)>,
}

impl Ledger {
    /// A ledger of a data set of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Ledger { name: name.into(), ..Ledger::default() }
    }

    /// What the set is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Enters a record; whether it is new.
    pub fn enter(&mut self, record: &Record) -> bool {
        match &record.what {
            What::Skipped(_) => self.skipped.insert(record.index, record.clone()).is_none(),
            What::Noted(note) => self.noted.insert((record.index, note.to_string())),
        }
    }

    /// The line for a record that is new, unless enough of its kind were told.
    pub fn line(&self, record: &Record) -> Option<String> {
        let (so_far, kind) = match record.what {
            What::Skipped(_) => (self.skipped.len(), "clips that are left out"),
            What::Noted(_) => (self.noted.len(), "notes"),
        };
        match so_far {
            n if n <= NAMED => Some(format!("{}: {record}", self.name)),
            n if n == NAMED + 1 => Some(format!("{}: further {kind} are counted only", self.name)),
            _ => None,
        }
    }

    /// How many clips were left out.
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }

    /// How many notes there are on clips.
    pub fn noted(&self) -> usize {
        self.noted.len()
    }

    /// What is told at the end: how many clips were left out, the first of them with the reason, and the
    /// classes of which every clip was left out; and how many notes there are.
    pub fn summary(&self, data: &dyn Dataset) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.skipped.is_empty() {
            let of = data.size().map(|size| format!(" of {size}")).unwrap_or_default();
            let one = |record: &Record| format!("{} ({})", record.clip, record.reason().unwrap_or_default());
            let first: Vec<_> = self.skipped.values().take(NAMED).map(one).collect();
            let more = self.skipped.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let n = self.skipped.len();
            lines.push(format!("{}: {n}{of} clips were left out: {}{more}", self.name, first.join(", ")));
            let lost = self.lost_classes(data);
            if !lost.is_empty() {
                lines.push(format!("{}: no clip is left of class {}", self.name, lost.join(", ")));
            }
        }
        if !self.noted.is_empty() {
            let clips = self.noted.iter().map(|(index, _)| index).collect::<BTreeSet<_>>().len();
            lines.push(format!("{}: {clips} clips were used with a note (damaged, short, or without times)", self.name));
        }
        lines
    }

    /// The classes of which every clip was left out.
    fn lost_classes(&self, data: &dyn Dataset) -> Vec<String> {
        let mut left = BTreeMap::<usize, bool>::new();
        for index in 0..data.size().unwrap_or(0) {
            for &label in data.labels(index).unwrap_or_default() {
                *left.entry(label).or_default() |= !self.skipped.contains_key(&index);
            }
        }
        let names = data.names().unwrap_or_default();
        let lost = left.into_iter().filter(|(_, is_left)| !is_left);
        lost.map(|(label, _)| names.get(label).cloned().unwrap_or_else(|| label.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::train::data::Sample;

    /// Thirty clips, the last five of class 1.
    struct Thirty;

    impl Dataset for Thirty {
        fn classes(&self) -> usize {
            2
        }
        fn names(&self) -> Option<Vec<String>> {
            Some(vec!["many".into(), "few".into()])
        }
        fn size(&self) -> Option<u64> {
            Some(30)
        }
        fn describe(&self, index: u64) -> String {
            format!("{index}.mp4")
        }
        fn labels(&self, index: u64) -> Option<&[usize]> {
            Some(if index < 25 { &[0] } else { &[1] })
        }
        fn sample(&self, index: u64, _: Option<&mut tubelet_engine::Philox>) -> Result<Sample> {
            Err(Error::format(self.describe(index), "broken"))
        }
    }

    fn broken(index: u64) -> Record {
        Record::skipped(&Thirty, index, &Thirty.sample(index, None).unwrap_err())
    }

    #[test]
    fn each_clip_is_told_once_and_twenty_by_name() {
        let mut ledger = Ledger::new("training");
        let mut lines = Vec::new();
        for record in (0..60).map(|i| broken(29 - i % 24)) {
            if ledger.enter(&record) {
                lines.extend(ledger.line(&record));
            }
        }
        assert_eq!((lines.len(), ledger.skipped()), (21, 24));
        assert_eq!(lines[0], "training: 29.mp4: left out: broken");
        assert_eq!(lines[20], "training: further clips that are left out are counted only");
        let summary = ledger.summary(&Thirty);
        assert!(summary[0].starts_with("training: 24 of 30 clips were left out: 6.mp4 (broken), "), "{summary:?}");
        assert!(summary[0].ends_with("25.mp4 (broken) and 4 more"), "{summary:?}");
        assert_eq!(summary[1..], ["training: no clip is left of class few"]);
        assert!(Ledger::new("training").summary(&Thirty).is_empty());
    }

    #[test]
    fn strict_accepts_notes_but_no_damage() {
        let error = broken(3).refuse().unwrap_err().to_string();
        assert!(error.starts_with("3.mp4: broken"), "{error}");
        Record::note(&Thirty, 1, Note::Short("short".into())).refuse().unwrap();
        let findings = [Finding::Note("x".into()), Finding::Missing { files: 1, text: "a is missing".into() }];
        refuse_missing(&findings, false).unwrap();
        assert!(refuse_missing(&findings, true).unwrap_err().to_string().contains("a is missing"));
    }
}
