use std::{ffi::OsString, path::PathBuf};

use clap::Args;
use tubelet_models::{
    Error, Result,
    checkpoint::Checkpoint,
    devices,
    engine::DType,
    params::Params,
    train::{
        Evaluation, Seen, Stages, Trainer,
        data::{Data, HeldOut, Stored},
        report::{Ledger, refuse_missing},
    },
    video::Views,
    weights::Choice,
};

use crate::{
    classify::progress,
    source::{dtype, find_weights},
    train::{confusion, describe},
};

/// Evaluate weights on the held-out clips of a recipe.
#[derive(Args)]
pub struct Arguments {
    /// A recipe that comes with the program, or a JSON file; of several stages the last.
    recipe: OsString,
    /// A checkpoint, in any naming of the recipe's system.
    #[arg(long, short)]
    weights: PathBuf,
    /// Which dictionary of the checkpoint holds the weights: its path, such as model or teacher.module. Without it the one that fits the
    /// model; of several, averaged weights before raw ones, which a line on standard error tells.
    #[arg(long, value_name = "KEY")]
    state_dict: Option<String>,
    /// For camera motion: pictures or videos to look at instead of drawn textures, a folder or one file.
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// For camera motion: take the motion away, to see what a single frame tells.
    #[arg(long)]
    still: bool,
    /// At most so many clips.
    #[arg(long, default_value_t = u64::MAX, value_parser = clap::value_parser!(u64).range(1..))]
    clips: u64,
    /// Refuse data with missing files, clips that cannot be read, and damaged clips.
    #[arg(long)]
    strict: bool,
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32, bf16 or f16; by default the recipe's.
    #[arg(long, value_parser = dtype)]
    dtype: Option<DType>,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let mut recipe = Stages::named(&arguments.recipe)?.into_last()?;
    if let Some(dtype) = arguments.dtype {
        recipe.precision = dtype.name().into();
    }
    match &mut recipe.data {
        Data::CameraMotion { pictures, still, .. } => {
            pictures.clone_from(&arguments.pictures);
            *still |= arguments.still;
        }
        Data::Files { .. } | Data::Joint { .. } if arguments.pictures.is_some() || arguments.still => {
            return Err(Error::invalid("--pictures, --still", "the recipe's clips are files"));
        }
        Data::Files { .. } | Data::Joint { .. } => {}
    }
    let config = recipe.config()?;
    let checkpoint = Checkpoint::open(&arguments.weights)?;
    // All that is wrong with the data is found before anything is computed.
    let sets = recipe.data.open_held_out(&config, &Stored::read(&arguments.weights, &checkpoint)?)?;
    if sets.iter().all(|set| set.data.is_none()) {
        return Err(Error::invalid("recipe", "it names no clips to evaluate on"));
    }
    for set in &sets {
        refuse_missing(&set.findings, arguments.strict)?;
        set.findings.iter().for_each(|finding| eprintln!("tubelet: {finding}"));
    }
    let device = devices::open(&arguments.device)?;
    let choice = Choice { naming: None, state_dict: arguments.state_dict.as_deref() };
    let weights = find_weights(&config, checkpoint, choice)?;
    let views = recipe.views.unwrap_or(Views::CENTRE);
    let trainer = Trainer::new(recipe, &device, Params::from_file(&device, DType::F32, &weights.file, &*weights.naming))?;
    for (i, set) in sets.iter().enumerate() {
        evaluate(arguments, &trainer, i, set, views)?;
    }
    Ok(true)
}

/// Evaluates on one data set, and prints the result.
fn evaluate(arguments: &Arguments, trainer: &Trainer, i: usize, set: &HeldOut, views: Views) -> Result<()> {
    let Some(held_out) = &set.data else {
        eprintln!("tubelet: the set {} names no clips to evaluate on", set.name.as_deref().unwrap_or("of the recipe"));
        return Ok(());
    };
    let bar = progress(held_out.size().unwrap_or(arguments.clips).min(arguments.clips), false);
    let mut ledger = Ledger::new(set.name.as_ref().map_or("validation".to_owned(), |name| format!("validation of {name}")));
    let evaluation = trainer.evaluate(i, &**held_out, views, arguments.clips, &mut |seen| {
        let Seen::Record(record) = seen else {
            bar.inc(1);
            return Ok(());
        };
        if arguments.strict {
            record.refuse()?;
        }
        if let Some(line) = ledger.enter(record).then(|| ledger.line(record)).flatten() {
            bar.suspend(|| eprintln!("tubelet: {line}"));
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    say!("{}", describe(0, set.name.as_deref(), &evaluation));
    confusion(&evaluation, held_out.names().unwrap_or_default());
    say!("{}", times(&evaluation));
    let missing = set.findings.iter().filter(|finding| finding.is_missing()).map(ToString::to_string);
    missing.chain(ledger.summary(&**held_out)).for_each(|line| eprintln!("tubelet: {line}"));
    Ok(())
}

/// How long an evaluation took, and which share of that clips were read for.
fn times(evaluation: &Evaluation) -> String {
    format!("{:.2} s in all, {:.0}% of it decoding", evaluation.elapsed.as_secs_f64(), 100.0 * evaluation.decoding())
}
