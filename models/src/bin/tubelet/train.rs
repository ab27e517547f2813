use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plotters::prelude::*;
use serde_json::Value;
use tubelet_models::{
    Error, Result,
    classify::parse_labels,
    devices,
    engine::Device,
    output::write_whole,
    registry::Config,
    train::{
        Evaluation, Event, Options, Recipe, Stages,
        parallel::{Alone, Group},
        run_with as train,
    },
};

use crate::table::Table;

/// Train a model by a recipe.
///
/// The folder --out gets metrics.jsonl, metrics.svg, checkpoints, and in the end weights.safetensors, config.json and labels.txt, which
/// `tubelet classify` reads; of a recipe in stages each has a folder of its own in --out, and begins where the one before ended. Ctrl-C ends the run with a checkpoint; --resume goes on with the same bits as if nothing had happened.
#[derive(Args)]
pub struct Arguments {
    /// A recipe that comes with the program (camera-motion, and camera-motion-tubevit, -vivit, -vidtr, -uniformerv2), or a JSON file.
    recipe: OsString,
    /// The run's folder.
    #[arg(long, short)]
    out: PathBuf,
    /// Go on with the folder's last checkpoint.
    #[arg(long)]
    resume: bool,
    /// Parameters to start from, in any naming of the system; random ones otherwise.
    #[arg(long)]
    start: Option<PathBuf>,
    /// What --start holds, if not the recipe's model: an image model (vit-b16, clip-b16 …) or a ViViT of another length; a preset or a
    /// configuration file. Image kernels become the central frame of video kernels; what the recipe's model adds is drawn at random.
    #[arg(long, requires = "start")]
    start_model: Option<OsString>,
    /// Which dictionary of --start holds the weights: its path, such as model or teacher.module. Without it the one that fits the model; of
    /// several, averaged weights before raw ones, which a line on standard error tells.
    #[arg(long, value_name = "KEY", requires = "start")]
    state_dict: Option<String>,
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads that decode and augment.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Train with all processes of `mpirun -n N tubelet train … --mpi` (Open MPI): each computes a part of every batch, all make the same step.
    #[arg(long)]
    mpi: bool,
    /// As --mpi, with a GPU for each process, from which gradients go to the others' by NCCL: `mpirun -n N tubelet train … --device cuda --nccl`. With
    /// `--device cuda` the first process of a machine has its first GPU, the second the second, and so on.
    #[arg(long, conflicts_with = "mpi")]
    nccl: bool,
    /// Capture a step once and replay it (cuda, where it is one CUDA graph; cuda-emulated): the same bits, more memory beside evaluation's. For one process.
    #[arg(long, conflicts_with_all = ["mpi", "nccl"])]
    captured: bool,
    /// Refuse data with missing files, clips that cannot be read, and damaged clips.
    #[arg(long)]
    strict: bool,
    /// Another number of steps than the recipe's, of each stage.
    #[arg(long)]
    steps: Option<u64>,
    /// Another seed than the recipe's.
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let stages = Stages::named(&arguments.recipe)?.map(|recipe| Recipe {
        steps: arguments.steps.unwrap_or(recipe.steps),
        seed: arguments.seed.unwrap_or(recipe.seed),
        ..recipe
    });
    let stop = Arc::new(AtomicBool::new(false));
    let handler = {
        let stop = Arc::clone(&stop);
        move || stop.store(true, Ordering::Relaxed)
    };
    ctrlc::set_handler(handler).map_err(|error| Error::invalid("Ctrl-C", error.to_string()))?;
    let options = Options {
        device: devices::open(&device_name(arguments)?)?,
        folder: arguments.out.clone(),
        resume: arguments.resume,
        start: arguments.start.clone(),
        start_model: arguments.start_model.as_deref().map(Config::named).transpose()?,
        start_state_dict: arguments.state_dict.clone(),
        threads: arguments.threads,
        captured: arguments.captured,
        strict: arguments.strict,
        stop: &stop,
    };
    // Last of all: until here each process fails by itself, and mpirun ends the others.
    let started: Box<dyn Group> = if arguments.mpi || arguments.nccl { mpi()? } else { Box::new(Alone) };
    let joined = if arguments.nccl { Some(nccl(&*started, &options.device)?) } else { None };
    let group = joined.as_deref().unwrap_or(&*started);
    for (i, (name, recipe)) in stages.iter().enumerate() {
        if let Some(name) = name.filter(|_| group.rank() == 0) {
            eprintln!("tubelet: stage {name}");
        }
        if !stage(group, recipe.clone(), &stages.options(i, &options)?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Runs one stage; whether it is finished.
fn stage(group: &dyn Group, recipe: Recipe, options: &Options<'_>) -> Result<bool> {
    let first = group.rank() == 0;
    let style =
        ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let target = if first { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(recipe.steps), target).with_style(style);
    let (mut loss, mut accuracy) = (None, 0.0);
    let outcome = train(group, recipe, options, &mut |event| match event {
        Event::Note(note) => say(&bar, &format!("tubelet: {note}")),
        Event::Step { done, report, clips_per_second, skipped } => {
            // Smoothed over some twenty steps, for the eye.
            let smooth = |old: f64, new: f64| old + 0.05 * (new - old);
            loss = Some(loss.map_or(report.loss, |old| smooth(old, report.loss)));
            accuracy = smooth(accuracy, report.accuracy.rate());
            bar.set_position(done);
            let unread = if skipped > 0 { format!(", {skipped} unreadable") } else { String::new() };
            let percent = 100.0 * accuracy;
            bar.set_message(format!(
                "loss {:.3}, top-1 {percent:.0}%, {clips_per_second:.1} clips/s{unread}",
                loss.unwrap_or(0.0)
            ));
        }
        Event::Evaluated { done, set, evaluation } => say(&bar, &describe(done, set, evaluation)),
    })?;
    bar.finish_and_clear();
    outcome.summary.iter().for_each(|line| eprintln!("tubelet: {line}"));
    if !first {
        return Ok(outcome.finished);
    }
    plot(&options.folder)?;
    if !outcome.finished {
        eprintln!("tubelet: stopped after step {}; --resume goes on", outcome.steps);
        return Ok(false);
    }
    if let Some(evaluation) = &outcome.evaluation {
        say!("{}", describe(outcome.steps, None, evaluation));
        let labels = options.folder.join("labels.txt");
        let names = std::fs::read(&labels).ok().map(|bytes| parse_labels(&labels.display().to_string(), &bytes)).transpose()?;
        confusion(evaluation, names.unwrap_or_default());
    }
    if let Some(weights) = &outcome.weights {
        say!("weights: {}", weights.display());
    }
    Ok(true)
}

/// The processes that mpirun started.
fn mpi() -> Result<Box<dyn Group>> {
    #[cfg(unix)]
    return Ok(Box::new(tubelet_models::train::mpi::Mpi::open()?));
    #[cfg(not(unix))]
    Err(Error::invalid("--mpi", "Open MPI runs on Unix alone"))
}

/// A line above the bar; also where standard error is no terminal and the bar itself says nothing.
fn say(bar: &ProgressBar, line: &str) {
    bar.suspend(|| eprintln!("{line}"));
}

/// Of `--device`, the device that is this process's.
fn device_name(arguments: &Arguments) -> Result<String> {
    #[cfg(unix)]
    if arguments.nccl {
        return tubelet_models::train::nccl::device_name(&arguments.device);
    }
    Ok(arguments.device.clone())
}

/// The GPUs of the processes that mpirun started.
fn nccl(started: &dyn Group, device: &Device) -> Result<Box<dyn Group>> {
    #[cfg(unix)]
    return Ok(Box::new(tubelet_models::train::nccl::join(started, device)?));
    #[cfg(not(unix))]
    Err(Error::invalid(
        "--nccl",
        format!("Open MPI, which starts the processes, runs on Unix alone ({device:?}, {})", started.size()),
    ))
}

pub fn describe(done: u64, set: Option<&str>, evaluation: &Evaluation) -> String {
    let percent = |x: f64| format!("{:.1}%", 100.0 * x);
    let map = evaluation.mean_average_precision.map(|map| format!(", mAP {}", percent(map))).unwrap_or_default();
    let unread = if evaluation.skipped > 0 { format!(", {} clips unreadable", evaluation.skipped) } else { String::new() };
    let set = set.map(|set| format!(" of {set}")).unwrap_or_default();
    format!(
        "step {done}: held out{set}: top-1 {}, top-5 {}, loss {:.3} on {} clips{map}{unread}",
        percent(evaluation.accuracy.rate()),
        percent(evaluation.accuracy.rate5()),
        evaluation.loss,
        evaluation.accuracy.total,
    )
}

/// What was taken for what, where there are few classes.
pub fn confusion(evaluation: &Evaluation, mut names: Vec<String>) {
    let classes = evaluation.confusion.len();
    if classes > 20 {
        return;
    }
    names.extend((names.len()..classes).map(|class| format!("class {class}")));
    let mut table = Table::new(["label", "clips", "right", "most often taken for"]);
    for (label, row) in evaluation.confusion.iter().enumerate() {
        let total: usize = row.iter().sum();
        let wrong = row.iter().enumerate().filter(|&(class, &n)| class != label && n > 0).max_by_key(|(_, n)| **n);
        let wrong = wrong.map(|(class, n)| format!("{} ({n})", names[class])).unwrap_or_default();
        let right = if total == 0 { String::new() } else { format!("{:.1}%", 100.0 * row[label] as f64 / total as f64) };
        table.row([names[label].clone(), total.to_string(), right, wrong]);
    }
    table.print();
}

/// Loss and accuracy over the steps, from the log, as `metrics.svg`.
fn plot(folder: &Path) -> Result<()> {
    let log = folder.join("metrics.jsonl");
    let text = std::fs::read_to_string(&log).map_err(Error::io(&log))?;
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let series = |key: &str| -> Vec<(f64, f64)> {
        lines.iter().filter_map(|line| Some((line["step"].as_f64()?, line[key].as_f64()?))).collect()
    };
    let [loss, held_out_loss, top1, held_out] = ["loss", "held_out_loss", "top1", "held_out_top1"].map(series);
    let last = lines.iter().filter_map(|line| line["step"].as_f64()).fold(1.0, f64::max);
    let most = loss.iter().chain(&held_out_loss).map(|(_, y)| *y).filter(|y| y.is_finite()).fold(0.1, f64::max);
    let path = folder.join("metrics.svg");
    let charts = [("loss", 1.05 * most, &loss, &held_out_loss), ("top-1 accuracy", 1.0, &top1, &held_out)];
    let mut picture = String::new();
    draw(&mut picture, last, &charts).map_err(|error| Error::invalid("metrics.svg", error))?;
    write_whole(&path, picture.as_bytes())
}

type Chart<'a> = (&'a str, f64, &'a Vec<(f64, f64)>, &'a Vec<(f64, f64)>);

/// One chart beside the other: training as a thin line, held-out clips as a thick one.
fn draw(picture: &mut String, last: f64, charts: &[Chart<'_>]) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let area = SVGBackend::with_string(picture, (960, 360)).into_drawing_area();
    area.fill(&WHITE).map_err(|e| text(&e))?;
    for (area, (title, top, training, held_out)) in area.split_evenly((1, charts.len())).iter().zip(charts) {
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(40)
            .build_cartesian_2d(0.0..last, 0.0..*top)
            .map_err(|e| text(&e))?;
        chart.configure_mesh().x_desc("step").light_line_style(WHITE).draw().map_err(|e| text(&e))?;
        for (points, style, name) in [(training, BLUE.stroke_width(1), "training"), (held_out, RED.stroke_width(2), "held out")] {
            let line = chart.draw_series(LineSeries::new(points.iter().copied(), style)).map_err(|e| text(&e))?;
            line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
            .map_err(|e| text(&e))?;
    }
    area.present().map_err(|e| text(&e))
}
