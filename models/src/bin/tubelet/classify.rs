use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tubelet_models::{
    Result,
    boxed::CameraMotion,
    classify::{Prediction, average, logits, top_k},
    devices,
    video::{self, Note, Views},
};

use crate::{
    source::{Source, warn},
    table::Table,
};

/// Classify a video with any of the four systems.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// How many classes to print.
    #[arg(long, short = 'k', default_value_t = 5)]
    top_k: usize,
    /// Clips × crops to average, like 4x3; default: one.
    #[arg(long, default_value = "1x1", value_parser = views)]
    views: Views,
    /// Say how long the whole took, and which share of it decoding had.
    #[arg(long, short)]
    verbose: bool,
}

fn views(text: &str) -> Result<Views, String> {
    let parsed = text.split_once('x').and_then(|(t, x)| Some(Views { clips: t.parse().ok()?, crops: x.parse().ok()? }));
    parsed.filter(|v| v.clips > 0 && v.crops > 0).ok_or_else(|| "expected clips x crops, like 4x3".into())
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let began = Instant::now();
    let Some(name) = arguments.source.model.as_deref() else {
        return camera_motion(arguments, began);
    };
    let json = arguments.source.json;
    let opened = arguments.source.open(name, arguments.views, "the classes below mean")?;
    let bar = progress(opened.clips.len() as u64, json || opened.clips.len() == 1);
    let mut rows = Vec::new();
    for clip in &opened.clips {
        rows.push(logits(&*opened.model, &opened.device, clip)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report(arguments, began, opened.decoding);
    let best = top_k(&average(&rows, opened.protocol.average)?, arguments.top_k)?;
    if json {
        let one = |p: &Prediction| json!({ "class": p.class, "label": opened.name(p.class), "probability": p.probability });
        let predictions: Vec<_> = best.iter().map(one).collect();
        say!(
            "{}",
            json!({
                "input": arguments.source.input.to_string_lossy(), "model": name.to_string_lossy(), "views": [arguments.views.clips, arguments.views.crops],
                "random_weights": arguments.source.is_random(), "predictions": predictions,
                "notes": texts(&opened.notes),
            })
        );
        return Ok(true);
    }
    let mut table = Table::new(["probability", "class"]);
    for p in &best {
        table.row([format!("{:.2}%", 100.0 * p.probability), opened.name(p.class)]);
    }
    table.print();
    Ok(true)
}

/// Without a model: what the camera does.
fn camera_motion(arguments: &Arguments, began: Instant) -> Result<bool> {
    let source = &arguments.source;
    source.check_boxed()?;
    let device = devices::open(&source.device)?;
    let model = CameraMotion::open(&device, source.dtype)?;
    let bar = progress(0, source.json);
    let opening = Instant::now();
    let mut video = video::open_with(&source.input, &source.reading.options())?;
    // Reading ends when the first window is looked at.
    let mut decoding = None;
    let segments = model.watch(&mut *video, &mut |i, of| {
        decoding.get_or_insert_with(|| opening.elapsed());
        bar.set_length(of as u64);
        bar.set_position(i as u64);
    })?;
    bar.finish_and_clear();
    let notes = video.notes();
    warn(&source.input, &notes);
    report(arguments, began, decoding.unwrap_or_default());
    if source.json {
        say!(
            "{}",
            json!({ "input": source.input.to_string_lossy(), "model": "camera-motion", "segments": segments, "notes": texts(&notes) })
        );
        return Ok(true);
    }
    let mut table = Table::new(["from", "to", "camera", "probability"]);
    for segment in &segments {
        let at = |frame: usize, seconds: Option<f64>| seconds.map_or_else(|| format!("frame {frame}"), |s| format!("{s:.2} s"));
        let [start, end] = segment.seconds.map_or([None, None], |s| s.map(Some));
        let percent = format!("{:.0}%", 100.0 * segment.probability);
        table.row([at(segment.start, start), at(segment.end, end), segment.label.clone(), percent]);
    }
    table.print();
    Ok(true)
}

/// With `--verbose`, how long the command took and which share of it decoding had.
fn report(arguments: &Arguments, began: Instant, decoding: Duration) {
    if arguments.verbose {
        let (all, decoding) = (began.elapsed().as_secs_f64(), decoding.as_secs_f64());
        eprintln!("tubelet: {all:.2} s in all, {decoding:.2} s of it decoding ({:.0}%)", 100.0 * decoding / all.max(1e-9));
    }
}

/// Notes as JSON has them.
fn texts(notes: &[Note]) -> Vec<String> {
    notes.iter().map(Note::to_string).collect()
}

/// A progress bar on standard error, hidden where nobody watches.
pub fn progress(len: u64, hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style)
}

/// A line on standard error that says what is being worked on.
pub fn spinner(hidden: bool) -> ProgressBar {
    if hidden { ProgressBar::hidden() } else { ProgressBar::new_spinner() }
}
