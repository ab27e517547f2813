//! The loop: batches, steps, evaluations, checkpoints, a log.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tubelet_engine::{DType, Device, Error, Result};

use super::{
    data::{Finding, Set},
    loader::{Batch, Loader, Plan},
    log::{self, Log, Unwritten},
    parallel::{Alone, Group, agree, share, sums},
    recipe::{Model, Recipe},
    report::{Ledger, Record, refuse_missing},
    start::Start,
    state::State,
    trainer::{Evaluation, Seen, StepReport, Trainer},
};
use crate::{labels, output::write_whole, registry::Config, video::Views};

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
    /// Which dictionary of `start` holds the parameters, if it has several.
    pub start_state_dict: Option<String>,
    /// Threads that make batches.
    pub threads: usize,
    /// Whether steps are captured and replayed (CUDA devices, one process), with the same bits: see [`Trainer::capture`].
    pub captured: bool,
    /// Whether missing files, clips that cannot be read, and damaged clips end the run.
    pub strict: bool,
    /// Once set, the run ends after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// What happens during a run. Rank 0 is told of everything, other processes are told of their clips.
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
        /// Training clips that could not be read in this session, each counted once by each process.
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
    /// What was left out of the data in this session, a line for each set and kind.
    pub summary: Vec<String>,
}

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

/// Runs a recipe with several processes, which share its batches. Rank 0 alone reads and writes the folder, and evaluates.
///
/// # Errors
/// As [`run`]; an error of one process is one of all.
pub fn run_with(group: &dyn Group, recipe: Recipe, options: &Options<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    let run = Run::start(group, recipe, options, observe);
    let Run { config, mut trainer, sets, log } = agree(group, &options.device, run)?;
    trainer.synchronise(group)?;
    if options.captured && group.size() > 1 {
        return Err(Error::invalid("--captured", "only steps of one process are captured"));
    }
    trainer.capture(options.captured)?;
    let loaders = agree(group, &options.device, load(group, &trainer, &sets, options.threads))?;
    let mut session = Session::new(group, options, observe, trainer, sets, log, loaders);
    let (evaluation, finished) = session.go_on()?;
    let (steps, summary) = (session.trainer.steps(), session.summary());
    let weights = match (&session.log, finished) {
        (Some(_), true) => export(&session.trainer, &config, &options.folder, &session.sets).map(Some),
        _ => Ok(None),
    };
    let weights = agree(group, &options.device, weights)?;
    Ok(Outcome { steps, finished, evaluation, weights, summary })
}

/// Threads that make the batches of each set.
fn load(group: &dyn Group, trainer: &Trainer, sets: &[Set], threads: usize) -> Result<Vec<Loader>> {
    let recipe = trainer.recipe();
    let load = |(i, set): (usize, &Set)| {
        let plan = Plan {
            data: Arc::clone(&set.training),
            augmentation: recipe.augmentation.clone(),
            batch: set.clips,
            share: share(group, set.clips, trainer.parts(group))?,
            seed: recipe.seed.wrapping_add(i as u64),
            patience: PATIENCE,
        };
        Loader::start(plan, trainer.steps(), threads)
    };
    sets.iter().enumerate().map(load).collect()
}

/// A run from its start, or from where it goes on, to its end or interruption.
struct Session<'a> {
    group: &'a dyn Group,
    options: &'a Options<'a>,
    observe: &'a mut dyn FnMut(Event<'_>),
    trainer: Trainer,
    sets: Vec<Set>,
    /// Of rank 0.
    log: Option<Log>,
    loaders: Vec<Loader>,
    /// For each set what was told of its training clips and of its held-out clips.
    ledgers: Vec<[Ledger; 2]>,
    unwritten: Unwritten,
    began: Instant,
    first: u64,
}

impl<'a> Session<'a> {
    fn new(
        group: &'a dyn Group,
        options: &'a Options<'a>,
        observe: &'a mut dyn FnMut(Event<'_>),
        trainer: Trainer,
        sets: Vec<Set>,
        log: Option<Log>,
        loaders: Vec<Loader>,
    ) -> Self {
        let rank = if group.size() > 1 { format!("rank {}: ", group.rank()) } else { String::new() };
        let ledger = |set: &Set, what: &str| {
            Ledger::new(format!("{rank}{what}{}", set.name.as_ref().map(|name| format!(" of {name}")).unwrap_or_default()))
        };
        let ledgers = sets.iter().map(|set| [ledger(set, "training"), ledger(set, "validation")]).collect();
        let (unwritten, first) = (Unwritten::default(), trainer.steps());
        Session { group, options, observe, trainer, sets, log, loaders, ledgers, unwritten, began: Instant::now(), first }
    }

    /// Trains to the end; the last evaluation on the first set that has held-out clips, and whether all steps are done.
    fn go_on(&mut self) -> Result<(Option<Evaluation>, bool)> {
        let mut evaluation = None;
        let (group, device, steps) = (self.group, &self.options.device, self.trainer.recipe().steps);
        while self.trainer.steps() < steps {
            let stop = f32::from(u8::from(self.options.stop.load(Ordering::Relaxed)));
            let [stop] = sums(group, device, [stop])?;
            if stop > 0.0 {
                let save = || self.trainer.state()?.save(&self.options.folder);
                agree(group, device, if group.rank() == 0 { save() } else { Ok(()) })?;
                return Ok((evaluation, false));
            }
            let batches = self.batches();
            let report = self.trainer.step_with(group, &agree(group, device, batches)?)?;
            let own = self.ledgers.iter().map(|[training, _]| training.skipped()).sum::<usize>();
            let [skipped] = sums(group, device, [own as f32])?;
            let noted = if self.log.is_some() { self.note(&report, skipped as u64) } else { Ok(None) };
            let done = self.trainer.steps();
            let recipe = self.trainer.recipe();
            let shared =
                [log::EVERY, recipe.checkpoint_every, recipe.evaluate_every].into_iter().any(|every| due(recipe, done, every));
            // What rank 0 does with files can fail, and the others must hear of it.
            evaluation = (if shared { agree(group, device, noted)? } else { noted? }).or(evaluation);
        }
        Ok((evaluation, true))
    }

    /// The next batch of each set, after what there is to tell of its clips.
    fn batches(&mut self) -> Result<Vec<Batch>> {
        let began = Instant::now();
        let batches = self.loaders.iter_mut().map(Loader::next_batch).collect();
        let reading = self.loaders.iter().map(Loader::reading).sum::<Duration>();
        if let Some(log) = &mut self.log {
            log.waited(began.elapsed(), reading);
        }
        for set in 0..self.loaders.len() {
            for record in self.loaders[set].take_records() {
                let (ledger, done) = (&mut self.ledgers[set][0], self.trainer.steps());
                let is_new = tell(self.options, ledger, &record, self.observe)?;
                if let Some(log) = self.log.as_mut().filter(|_| is_new) {
                    self.unwritten.log(done, log.record(done, ledger.name(), &record), self.observe)?;
                }
            }
        }
        batches
    }

    /// What rank 0 does after a step: the log, a checkpoint, evaluations.
    fn note(&mut self, report: &StepReport, skipped: u64) -> Result<Option<Evaluation>> {
        let (done, recipe) = (self.trainer.steps(), self.trainer.recipe().clone());
        let Some(log) = &mut self.log else { return Ok(None) };
        self.unwritten.log(done, log.step(done, report), self.observe)?;
        let clips_per_second = ((done - self.first) * recipe.batch as u64) as f64 / self.began.elapsed().as_secs_f64();
        (self.observe)(Event::Step { done, report, clips_per_second, skipped });
        if due(&recipe, done, recipe.checkpoint_every) {
            self.unwritten.log(done, log.flush(), self.observe)?;
            let saved = self.trainer.state()?.save(&self.options.folder);
            self.unwritten.checkpoint(done, done == recipe.steps, saved, self.observe)?;
        }
        let mut first = None;
        if due(&recipe, done, recipe.evaluate_every) {
            // On the way one view of each has to do.
            let views = recipe.views.filter(|_| done == recipe.steps).unwrap_or(Views::CENTRE);
            for set in 0..self.sets.len() {
                let evaluation = self.evaluate(set, views)?;
                first = first.or(evaluation);
            }
        }
        Ok(first)
    }

    /// Evaluates on the held-out clips of a set, if it has any.
    fn evaluate(&mut self, i: usize, views: Views) -> Result<Option<Evaluation>> {
        let Session { options, observe, trainer, sets, log, ledgers, unwritten, .. } = self;
        let (done, set, ledger) = (trainer.steps(), &sets[i], &mut ledgers[i][1]);
        let (Some(data), Some(log)) = (&set.held_out, log) else { return Ok(None) };
        let evaluation = trainer.evaluate(i, &**data, views, u64::MAX, &mut |seen| match seen {
            Seen::Record(record) if tell(options, ledger, record, *observe)? => {
                unwritten.log(done, log.record(done, ledger.name(), record), *observe)
            }
            _ => Ok(()),
        })?;
        unwritten.log(done, log.evaluation(done, set.name.as_deref(), &evaluation), *observe)?;
        observe(Event::Evaluated { done, set: set.name.as_deref(), evaluation: &evaluation });
        Ok(Some(evaluation))
    }

    /// What was left out of the data.
    fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (set, [training, held_out]) in self.sets.iter().zip(&self.ledgers) {
            let missing = set.findings.iter().filter(|finding| finding.is_missing());
            lines.extend(missing.filter(|_| self.group.rank() == 0).map(Finding::to_string));
            lines.extend(training.summary(&*set.training));
            lines.extend(set.held_out.iter().flat_map(|data| held_out.summary(&**data)));
        }
        lines
    }
}

/// Whether something that is done every so many steps, and after the last, is due after step `done`.
fn due(recipe: &Recipe, done: u64, every: u64) -> bool {
    done == recipe.steps || (every > 0 && done.is_multiple_of(every))
}

/// Tells of a clip for the first time; whether it was the first.
///
/// # Errors
/// In a strict run, of clips that are left out or damaged.
fn tell(options: &Options<'_>, ledger: &mut Ledger, record: &Record, observe: &mut dyn FnMut(Event<'_>)) -> Result<bool> {
    if options.strict {
        record.refuse()?;
    }
    let is_new = ledger.enter(record);
    if let Some(line) = ledger.line(record).filter(|_| is_new) {
        observe(Event::Note(line));
    }
    Ok(is_new)
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
        // All that is wrong with the data is found before the model is built.
        let sets = recipe.data.open(recipe.batch, &config)?;
        sets.iter().try_for_each(|set| refuse_missing(&set.findings, options.strict))?;
        if group.rank() != 0 {
            // What it starts from comes from rank 0.
            let trainer = Trainer::random(recipe, &options.device)?;
            return Ok(Run { config, trainer, sets, log: None });
        }
        let findings = || sets.iter().flat_map(|set| set.findings.iter().map(|finding| (set.name.as_deref(), finding)));
        findings().for_each(|(_, finding)| observe(Event::Note(finding.to_string())));
        fs::create_dir_all(&options.folder).map_err(Error::io(&options.folder))?;
        let names = class_names(&recipe, &config, &sets)?;
        let trainer = start(recipe, &config, options, observe)?;
        keep_names(&options.folder, names.as_deref(), trainer.steps())?;
        let threads = options.threads.max(1) * sets.len();
        let mut log = Log::open(&options.folder.join("metrics.jsonl"), trainer.steps(), threads)?;
        findings().try_for_each(|(set, finding)| log.finding(trainer.steps(), set, finding))?;
        Ok(Run { config, trainer, sets, log: Some(log) })
    }
}

/// The names of the classes of the model's first head.
fn class_names(recipe: &Recipe, config: &Config, sets: &[Set]) -> Result<Option<Vec<String>>> {
    let first = recipe.data.heads(config)?.into_iter().position(|head| head == 0);
    Ok(first.and_then(|set| sets.get(set)?.training.names()))
}

/// Writes the names of the classes at the start of a run. A run that goes on must have the same.
fn keep_names(folder: &Path, names: Option<&[String]>, done: u64) -> Result<()> {
    let (Some(names), path) = (names, folder.join("labels.txt")) else { return Ok(()) };
    let text = labels::write(names);
    if done > 0 && path.is_file() {
        let before = labels::parse(&path.display().to_string(), &fs::read(&path).map_err(Error::io(&path))?)?;
        let message = "the classes of the data are not those that the run was started with";
        return if before == names { Ok(()) } else { Err(Error::format(path.display().to_string(), message)) };
    }
    write_whole(&path, text.as_bytes())
}

/// Writes what comes of a run; gives the weights' path.
fn export(trainer: &Trainer, config: &Config, folder: &Path, sets: &[Set]) -> Result<PathBuf> {
    let names: Vec<_> = sets.iter().map(|set| set.training.names()).collect();
    let weights = folder.join("weights.safetensors");
    trainer.export(&weights, DType::F32, &names)?;
    trainer.export(&folder.join("weights-bf16.safetensors"), DType::BF16, &names)?;
    let config = serde_json::to_vec_pretty(&config).map_err(|error| Error::invalid("config", error.to_string()))?;
    write_whole(&folder.join("config.json"), &config)?;
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
        (None, false) if options.folder.join("weights.safetensors").exists() => {
            let message = format!("{} holds the weights of another run, which would be lost", options.folder.display());
            return Err(Error::invalid("--out", message));
        }
        (state, _) => state,
    };
    let given = options.start.as_ref().map(|weights| Start {
        model: options.start_model.clone().map(|config| Model::Given(Box::new(config))),
        weights: weights.clone(),
        take: Vec::new(),
        state_dict: options.start_state_dict.clone(),
    });
    let start = given.map_or(recipe.start.clone(), |given| vec![given]);
    // A checkpoint of this run has all parameters already.
    let start = if state.is_some() { &[] } else { start.as_slice() };
    let mut trainer = super::start::trainer(recipe, config, device, start, &mut |note| observe(Event::Note(note)))?;
    if let Some(state) = state {
        trainer.restore(&state)?;
        observe(Event::Note(format!("goes on after step {}", state.step)));
    }
    Ok(trainer)
}
