//! The log of a run, `metrics.jsonl`: a JSON object a line.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tubelet_engine::{Error, Result};

use super::{
    Event,
    data::Finding,
    metrics::Accuracy,
    report::{Record, What},
    trainer::{Evaluation, StepReport},
};
use crate::output::write_whole;

/// Steps whose mean makes a line of the log.
pub(super) const EVERY: u64 = 10;
/// Checkpoints in a row that may stay unwritten: on a full disk somebody may make room, but not for ever.
const UNSAVED: u32 = 3;

/// Files that could not be written on the way.
#[derive(Default)]
pub(super) struct Unwritten {
    /// Whether the last line of the log failed: a full disk is noted once.
    log: bool,
    /// Checkpoints in a row.
    checkpoints: u32,
}

impl Unwritten {
    pub(super) fn log(&mut self, done: u64, written: Result<()>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let before = std::mem::replace(&mut self.log, written.is_err());
        match written {
            Err(Error::Io { .. }) if before => Ok(()),
            Err(error @ Error::Io { .. }) => {
                observe(Event::Note(format!("step {done}: lines of the log are missing: {error}")));
                Ok(())
            }
            other => other,
        }
    }

    pub(super) fn checkpoint(
        &mut self,
        done: u64,
        last: bool,
        written: Result<()>,
        observe: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        self.checkpoints = if written.is_err() { self.checkpoints + 1 } else { 0 };
        match written {
            Err(error @ Error::Io { .. }) if !last && self.checkpoints <= UNSAVED => {
                observe(Event::Note(format!("step {done}: no checkpoint, the one before stays: {error}")));
                Ok(())
            }
            other => other,
        }
    }
}

/// The log: a JSON object a line.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    pending: Vec<(StepReport, u64)>,
    shares: Shares,
}

/// How the time was spent since the last line of the log.
struct Shares {
    /// Threads that read clips.
    threads: usize,
    since: Instant,
    /// How long they had read clips by then, all together.
    before: Duration,
    /// How long they have read clips by now.
    reading: Duration,
    /// How long training has waited for batches.
    waited: Duration,
}

impl Shares {
    /// The shares of the time in which a thread has read a clip, and in which training has waited; then begins anew.
    fn take(&mut self) -> [f64; 2] {
        let elapsed = self.since.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
        let read = self.reading.saturating_sub(self.before).as_secs_f64() / self.threads.max(1) as f64;
        let shares = [read, self.waited.as_secs_f64()].map(|seconds| (seconds / elapsed).min(1.0));
        *self = Shares { since: Instant::now(), before: self.reading, waited: Duration::ZERO, ..*self };
        shares
    }
}

impl Log {
    /// Goes on after step `done`: what an interrupted run wrote beyond it goes. `threads` read clips.
    pub(super) fn open(path: &Path, done: u64, threads: usize) -> Result<Self> {
        let mut kept = String::new();
        if let Ok(file) = File::open(path) {
            for line in BufReader::new(file).lines() {
                let line = line.map_err(Error::io(path))?;
                let step = serde_json::from_str::<Value>(&line).ok().and_then(|value| value["step"].as_u64());
                if step.is_some_and(|step| step <= done) {
                    kept.push_str(&line);
                    kept.push('\n');
                }
            }
        }
        write_whole(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
        let (since, zero) = (Instant::now(), Duration::ZERO);
        let shares = Shares { threads, since, before: zero, reading: zero, waited: zero };
        Ok(Log { file, path: path.to_owned(), pending: Vec::new(), shares })
    }

    /// Notes that training has waited for a batch, and for how long all threads have read clips so far.
    pub(super) fn waited(&mut self, waited: Duration, reading: Duration) {
        self.shares.waited += waited;
        self.shares.reading = reading;
    }

    /// Something that was found when the data was opened.
    pub(super) fn finding(&mut self, done: u64, set: Option<&str>, finding: &Finding) -> Result<()> {
        match finding {
            Finding::Missing { files, text } => {
                self.line(&json!({ "step": done, "set": set, "missing": { "files": files, "text": text } }))
            }
            Finding::Note(text) => self.line(&json!({ "step": done, "set": set, "note": { "text": text } })),
        }
    }

    /// A clip that was left out, or of which there is a note.
    pub(super) fn record(&mut self, done: u64, data: &str, record: &Record) -> Result<()> {
        let Record { clip, what, .. } = record;
        match what {
            What::Skipped(reason) => {
                self.line(&json!({ "step": done, "skipped": { "data": data, "clip": clip, "reason": reason } }))
            }
            What::Noted(note) => {
                self.line(&json!({ "step": done, "note": { "data": data, "clip": clip, "text": note.to_string() } }))
            }
        }
    }

    pub(super) fn step(&mut self, done: u64, report: &StepReport) -> Result<()> {
        self.pending.push((*report, done));
        if done.is_multiple_of(EVERY) { self.flush() } else { Ok(()) }
    }

    /// Writes the mean of the steps since the last line.
    pub(super) fn flush(&mut self) -> Result<()> {
        let Some(&(last, done)) = self.pending.last() else { return Ok(()) };
        let n = self.pending.len() as f64;
        let loss = self.pending.iter().map(|(report, _)| report.loss).sum::<f64>() / n;
        let norm = self.pending.iter().map(|(report, _)| report.norm).sum::<f64>() / n;
        let mut all = Accuracy::default();
        for (report, _) in self.pending.drain(..) {
            all.top1 += report.accuracy.top1;
            all.total += report.accuracy.total;
        }
        let [decoding, waiting] = self.shares.take();
        self.line(&json!({
            "step": done, "loss": loss, "top1": all.rate(), "gradient_norm": norm, "learning_rate": last.learning_rate,
            "decoding": decoding, "waiting": waiting,
        }))
    }

    pub(super) fn evaluation(&mut self, done: u64, set: Option<&str>, evaluation: &Evaluation) -> Result<()> {
        self.line(&json!({
            "step": done, "set": set, "held_out_loss": evaluation.loss, "held_out_top1": evaluation.accuracy.rate(),
            "held_out_top5": evaluation.accuracy.rate5(), "held_out_map": evaluation.mean_average_precision,
            "skipped_clips": evaluation.skipped, "decoding": evaluation.decoding(),
        }))
    }

    fn line(&mut self, value: &Value) -> Result<()> {
        writeln!(self.file, "{value}").map_err(Error::io(&self.path))
    }
}
