use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

use clap::Args;
use serde_json::json;
use tubelet_models::{
    Error, Result,
    engine::{DType, Device},
    params::Params,
    registry::Config,
    train::{
        Recipe, Stages,
        data::{
            Dataset, Expected, Files, Finding,
            check::{Check, Problem, check},
        },
    },
};

use crate::{classify::progress, table::Table};

/// Read a whole data set, and report every clip that cannot be read, is damaged, is too short, or has unusual timestamps.
///
/// Missing files and labels that the model does not have are reported, too. The exit status is 1 if a clip is missing, cannot be read, or is damaged.
#[derive(Args)]
pub struct Arguments {
    /// A folder of class folders, a list of lines `path label`, or a recipe (a JSON file or the name of one), of which training and validation clips are read.
    data: PathBuf,
    /// A preset or a configuration file: clips have to be as long as the clips of this model, and labels have to be classes of it. A recipe has a model of its own.
    #[arg(long, short)]
    model: Option<String>,
    /// Accept clips with several labels in a list.
    #[arg(long)]
    multi_label: bool,
    /// Only open each clip and read its times, instead of decoding every frame.
    #[arg(long)]
    quick: bool,
    /// Clips that are read at a time; all processors if not given.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let sets = open(arguments)?;
    let clips = sets.iter().filter_map(|(files, _)| files.size()).sum::<u64>();
    let threads = arguments.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let bar = progress(clips, arguments.json);
    let mut problems = Vec::new();
    for (files, sampled) in &sets {
        let how = Check { quick: arguments.quick, sampled: *sampled, threads };
        problems.extend(check(files, how, &|| bar.inc(1))?);
    }
    bar.finish_and_clear();
    let findings: Vec<&Finding> = sets.iter().flat_map(|(files, _)| files.findings()).collect();
    if arguments.json {
        print_json(&arguments.data, clips, &problems, &findings)
    } else {
        print(clips, &problems, &findings)
    }
    let is_whole =
        !problems.iter().any(|problem| problem.kind.is_defect()) && !findings.iter().any(|finding| finding.is_missing());
    Ok(is_whole)
}

/// The sets, and of each whether its clips have to be as long as a model wants.
fn open(arguments: &Arguments) -> Result<Vec<(Files, bool)>> {
    let path = &arguments.data;
    if let Some(recipe) = recipe(path)? {
        if arguments.model.is_some() || arguments.multi_label {
            return Err(Error::invalid("--model, --multi-label", "a recipe says what its model and its labels are"));
        }
        let mut all = Vec::new();
        for (_, recipe) in recipe.iter() {
            all.extend(recipe.data.files(&recipe.config()?)?);
        }
        return Ok(all.into_iter().map(|files| (files, true)).collect());
    }
    let config = arguments.model.as_deref().map(Config::named).transpose()?;
    let classes = config.as_ref().map(|config| config.build(&mut Params::empty(&Device::meter(), DType::F32))).transpose()?;
    let expected = Expected { classes: classes.map(|model| model.classes()), names: None, multi_label: arguments.multi_label };
    // Without a model the protocol is not looked at.
    let protocol = config
        .as_ref()
        .map_or_else(|| Config::named("vivit-tiny").map(|config| config.protocol()), |config| Ok(config.protocol()))?;
    Ok(vec![(Files::open(path, protocol, &expected)?, config.is_some())])
}

/// The recipe that `data` is, if it is one: a JSON file, or the name of a recipe that comes with the program.
fn recipe(data: &Path) -> Result<Option<Stages>> {
    if data.exists() && data.extension().is_none_or(|extension| extension != "json") {
        return Ok(None);
    }
    if !data.exists() && !Recipe::shipped().any(|shipped| data.as_os_str() == shipped) {
        return Err(Error::invalid(data.display().to_string(), "there is no such folder, list or recipe"));
    }
    Stages::named(data).map(Some)
}

fn print(clips: u64, problems: &[Problem], findings: &[&Finding]) {
    findings.iter().for_each(|finding| say!("{finding}"));
    if !problems.is_empty() {
        let mut table = Table::new(["clip", "line", "problem", "what"]);
        for Problem { clip, line, kind, message } in problems {
            let line = line.map(|line| line.to_string()).unwrap_or_default();
            table.row([clip.clone(), line, kind.name().to_owned(), message.clone()]);
        }
        table.print();
    }
    let defects = problems.iter().filter(|problem| problem.kind.is_defect()).count();
    say!("{clips} clips, {defects} unreadable or damaged, {} other problems", problems.len() - defects);
}

fn print_json(data: &Path, clips: u64, problems: &[Problem], findings: &[&Finding]) {
    let missing: usize =
        findings.iter().map(|finding| if let Finding::Missing { files, .. } = finding { *files } else { 0 }).sum();
    let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
    say!(
        "{}",
        json!({ "data": data.to_string_lossy(), "clips": clips, "missing": missing, "findings": findings, "problems": problems })
    );
}
