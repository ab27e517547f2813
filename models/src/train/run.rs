//! The loop: batches, steps, evaluations, checkpoints, a log.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};
use tubelet_engine::{DType, Device, Error, Result};

use super::{
    data::Set,
    loader::{Loader, Plan},
    metrics::Accuracy,
    parallel::{Alone, Group, agree, share, sums},
    recipe::{Model, Recipe},
    start::Start,
    state::State,
    trainer::{Evaluation, StepReport, Trainer},
};
use crate::{registry::Config, video::Views};

/// Where and how to run a recipe.
pub struct Options<'a> {
    /// Where to compute.
    pub device: Device,
    /// For checkpoints, the log `metrics.jsonl` and the finished `weights.safetensors`; made if it is not there.
    pub folder: PathBuf,
    /// Whether to go on from the folder's checkpoint, if there is one.
    pub resume: bool,
    /// Parameters to start from, in any naming of the system; random ones otherwise.
    pub start: Option<PathBuf>,
    /// What they are the parameters of, if not of the recipe's model: an image model, or a ViViT of another length (SFA's first stage). What the
    /// recipe's model adds is drawn from its seed.
    pub start_model: Option<Config>,
    /// Threads that make batches.
    pub threads: usize,
    /// Whether steps are captured and replayed (CUDA devices, one process), with the same bits: see [`Trainer::capture`].
    pub captured: bool,
    /// Once set, the run ends after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// What happens during a run.
pub enum Event<'a> {
    /// Something that a person should know.
    Note(String),
    /// A step was done, the `done`-th, after so many seconds of this session.
    Step {
        /// Steps done.
        done: u64,
        /// What it did.
        report: &'a StepReport,
        /// Clips per second of this session.
        clips_per_second: f64,
        /// Clips that could not be read, so far.
        skipped: u64,
    },
    /// The model was evaluated.
    Evaluated {
        /// Steps done.
        done: u64,
        /// On the held-out clips of this set, where there are several.
        set: Option<&'a str>,
        /// How good it is.
        evaluation: &'a Evaluation,
    },
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps done.
    pub steps: u64,
    /// Whether all steps of the recipe are done.
    pub finished: bool,
    /// The last evaluation, on the first set that has held-out clips.
    pub evaluation: Option<Evaluation>,
    /// The finished weights.
    pub weights: Option<PathBuf>,
}

/// Steps whose mean makes a line of the log.
const LOG_EVERY: u64 = 10;
/// Checkpoints in a row that may stay unwritten: on a full disk somebody may make room, but not for ever.
const UNSAVED: u32 = 3;
/// Unreadable clips in a row at which a run fails.
const PATIENCE: usize = 64;

/// Runs a recipe.
///
/// # Errors
/// Of data, operations and files. Whatever happens, the newest checkpoint stays whole. Log lines and checkpoints that cannot be written on the way, as
/// on a full disk, are noted and survived; the fourth checkpoint in a row is an error, and so is the last one.
pub fn run(recipe: Recipe, options: &Options<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    run_with(&Alone, recipe, options, observe)
}

/// Runs a recipe with several processes, which share its batches. Rank 0 alone reads and writes the folder, evaluates, and is observed.
///
/// # Errors
/// As [`run`]; an error of one process is one of all.
pub fn run_with(group: &dyn Group, recipe: Recipe, options: &Options<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    let device = &options.device;
    let run = Run::start(group, recipe, options, observe);
    let Run { config, mut trainer, sets, mut log } = agree(group, device, run)?;
    trainer.synchronise(group)?;
    if options.captured && group.size() > 1 {
        return Err(Error::invalid("--captured", "only steps of one process are captured"));
    }
    trainer.capture(options.captured)?;
    let recipe = trainer.recipe().clone();
    let load = |(i, set): (usize, &Set)| {
        let plan = Plan {
            data: Arc::clone(&set.training),
            augmentation: recipe.augmentation.clone(),
            batch: set.clips,
            share: share(group, set.clips, trainer.parts(group))?,
            seed: recipe.seed.wrapping_add(i as u64),
            patience: PATIENCE,
        };
        Loader::start(plan, trainer.steps(), options.threads)
    };
    let loaders = sets.iter().enumerate().map(load).collect::<Result<Vec<_>>>();
    let mut loaders = agree(group, device, loaders)?;
    let (began, first) = (Instant::now(), trainer.steps());
    let mut outcome = Outcome { steps: first, finished: false, evaluation: None, weights: None };
    let mut unwritten = Unwritten::default();
    while trainer.steps() < recipe.steps {
        let stop = f32::from(u8::from(options.stop.load(Ordering::Relaxed)));
        let skipped = loaders.iter().map(Loader::skipped).sum::<u64>();
        let [stop, skipped] = sums(group, device, [stop, skipped as f32])?;
        if stop > 0.0 {
            let saved = if group.rank() == 0 { trainer.state().and_then(|state| state.save(&options.folder)) } else { Ok(()) };
            agree(group, device, saved)?;
            return Ok(Outcome { steps: trainer.steps(), ..outcome });
        }
        let batches = loaders.iter_mut().map(Loader::next_batch).collect::<Result<Vec<_>>>();
        let report = trainer.step_with(group, &agree(group, device, batches)?)?;
        let done = trainer.steps();
        let last = done == recipe.steps;
        let due = |every: u64| last || (every > 0 && done.is_multiple_of(every));
        // What rank 0 does with files can fail, and the others must hear of it.
        let mut note = |log: &mut Log| -> Result<Option<Evaluation>> {
            unwritten.log(done, log.step(done, &report), observe)?;
            let clips_per_second = ((done - first) * recipe.batch as u64) as f64 / began.elapsed().as_secs_f64();
            observe(Event::Step { done, report: &report, clips_per_second, skipped: skipped as u64 });
            if due(recipe.checkpoint_every) {
                unwritten.log(done, log.flush(), observe)?;
                unwritten.checkpoint(done, last, trainer.state()?.save(&options.folder), observe)?;
            }
            let mut first = None;
            for (i, set) in sets.iter().enumerate().filter(|_| due(recipe.evaluate_every)) {
                let Some(data) = &set.held_out else { continue };
                // On the way one view of each has to do.
                let views = recipe.views.filter(|_| last).unwrap_or(Views::CENTRE);
                let evaluation = trainer.evaluate(i, &**data, views, u64::MAX, &mut |_| {})?;
                unwritten.log(done, log.evaluation(done, set.name.as_deref(), &evaluation), observe)?;
                observe(Event::Evaluated { done, set: set.name.as_deref(), evaluation: &evaluation });
                first = first.or(Some(evaluation));
            }
            Ok(first)
        };
        let noted = log.as_mut().map_or(Ok(None), &mut note);
        let shared = due(LOG_EVERY) || due(recipe.checkpoint_every) || due(recipe.evaluate_every);
        let evaluation = if shared { agree(group, device, noted)? } else { noted? };
        outcome.evaluation = evaluation.or(outcome.evaluation);
    }
    let names = sets.first().and_then(|set| set.training.names());
    let weights = if log.is_some() { export(&trainer, &config, &options.folder, names.as_deref()).map(Some) } else { Ok(None) };
    let weights = agree(group, device, weights)?;
    Ok(Outcome { steps: trainer.steps(), finished: true, weights, ..outcome })
}

/// Files that could not be written on the way.
#[derive(Default)]
struct Unwritten {
    /// Whether the last line of the log failed: a full disk is noted once.
    log: bool,
    /// Checkpoints in a row.
    checkpoints: u32,
}

impl Unwritten {
    fn log(&mut self, done: u64, written: Result<()>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
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

    fn checkpoint(&mut self, done: u64, last: bool, written: Result<()>, observe: &mut dyn FnMut(Event<'_>)) -> Result<()> {
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

/// What a run begins with.
struct Run {
    config: Config,
    trainer: Trainer,
    sets: Vec<Set>,
    /// Of rank 0.
    log: Option<Log>,
}

impl Run {
    fn start(group: &dyn Group, recipe: Recipe, options: &Options<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<Self> {
        let config = recipe.config()?;
        let sets = recipe.data.open(recipe.batch, config.input(), &config.protocol())?;
        let (trainer, log) = if group.rank() == 0 {
            fs::create_dir_all(&options.folder).map_err(Error::io(&options.folder))?;
            let trainer = start(recipe, &config, options, observe)?;
            let log = Log::open(&options.folder.join("metrics.jsonl"), trainer.steps())?;
            (trainer, Some(log))
        } else {
            // What it starts from comes from rank 0.
            (Trainer::random(recipe, &options.device)?, None)
        };
        for (set, classes) in sets.iter().zip(trainer.classes()?) {
            if set.training.classes() != classes {
                let (name, found) = (set.name.as_deref().unwrap_or("the data"), set.training.classes());
                return Err(Error::invalid("data", format!("{name} has {found} classes, the model {classes}")));
            }
        }
        Ok(Run { config, trainer, sets, log })
    }
}

/// Writes what comes of a run; gives the weights' path.
fn export(trainer: &Trainer, config: &Config, folder: &Path, names: Option<&[String]>) -> Result<PathBuf> {
    let weights = folder.join("weights.safetensors");
    trainer.export(&weights, DType::F32, names)?;
    trainer.export(&folder.join("weights-bf16.safetensors"), DType::BF16, names)?;
    let config = serde_json::to_vec_pretty(&config).map_err(|error| Error::invalid("config", error.to_string()))?;
    write_whole(&folder.join("config.json"), &config)?;
    if let Some(names) = names {
        write_whole(&folder.join("labels.txt"), (names.join("\n") + "\n").as_bytes())?;
    }
    Ok(weights)
}

/// A new trainer, or one that goes on.
fn start(recipe: Recipe, config: &Config, options: &Options<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<Trainer> {
    let device = &options.device;
    let (state, refused) = State::load(&options.folder, device)?;
    refused
        .into_iter()
        .for_each(|why| observe(Event::Note(format!("a checkpoint cannot be read, the one before is used: {why}"))));
    let state = match (state, options.resume) {
        (Some(_), false) => {
            let message = format!("{} holds a run already: --resume goes on with it", options.folder.display());
            return Err(Error::invalid("--out", message));
        }
        (state, _) => state,
    };
    let given = options.start.as_ref().map(|weights| Start {
        model: options.start_model.clone().map(|config| Model::Given(Box::new(config))),
        weights: weights.clone(),
        take: Vec::new(),
    });
    let start = given.map_or(recipe.start.clone(), |given| vec![given]);
    // A checkpoint of this run has all parameters already.
    let start = if state.is_some() { &[] } else { start.as_slice() };
    let mut trainer = super::start::trainer(recipe, config, device, start)?;
    if let Some(state) = state {
        trainer.restore(&state)?;
        observe(Event::Note(format!("goes on after step {}", state.step)));
    }
    Ok(trainer)
}

/// Writes a file by a temporary name.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).map_err(Error::io(&temporary))?;
    fs::rename(&temporary, path).map_err(Error::io(path))
}

/// The log: a JSON object a line.
struct Log {
    file: File,
    path: PathBuf,
    pending: Vec<(StepReport, u64)>,
}

impl Log {
    /// Goes on after step `done`: what an interrupted run wrote beyond it goes.
    fn open(path: &Path, done: u64) -> Result<Self> {
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
        Ok(Log { file, path: path.to_owned(), pending: Vec::new() })
    }

    fn step(&mut self, done: u64, report: &StepReport) -> Result<()> {
        self.pending.push((*report, done));
        if done.is_multiple_of(LOG_EVERY) { self.flush() } else { Ok(()) }
    }

    /// Writes the mean of the steps since the last line.
    fn flush(&mut self) -> Result<()> {
        let Some(&(last, done)) = self.pending.last() else { return Ok(()) };
        let n = self.pending.len() as f64;
        let loss = self.pending.iter().map(|(report, _)| report.loss).sum::<f64>() / n;
        let norm = self.pending.iter().map(|(report, _)| report.norm).sum::<f64>() / n;
        let mut all = Accuracy::default();
        for (report, _) in self.pending.drain(..) {
            all.top1 += report.accuracy.top1;
            all.total += report.accuracy.total;
        }
        self.line(&json!({
            "step": done, "loss": loss, "top1": all.rate(), "gradient_norm": norm, "learning_rate": last.learning_rate,
        }))
    }

    fn evaluation(&mut self, done: u64, set: Option<&str>, evaluation: &Evaluation) -> Result<()> {
        self.line(&json!({
            "step": done, "set": set, "held_out_loss": evaluation.loss, "held_out_top1": evaluation.accuracy.rate(),
            "held_out_top5": evaluation.accuracy.rate5(), "held_out_map": evaluation.mean_average_precision,
        }))
    }

    fn line(&mut self, value: &Value) -> Result<()> {
        writeln!(self.file, "{value}").map_err(Error::io(&self.path))
    }
}
