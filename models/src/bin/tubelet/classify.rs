use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tubelet_models::{
    Error, Result,
    boxed::CameraMotion,
    classify::{average, logits, parse_labels, top_k},
    devices,
    engine::DType,
    registry::{Config, Protocol},
    video::{self, Views},
};

use crate::table::Table;

/// Classify a video with any of the four systems.
#[derive(Args)]
pub struct Arguments {
    /// A video (mp4, mkv, webm, avi … through an installed ffmpeg; y4m natively), an image, or a folder of images.
    input: PathBuf,
    /// A preset (see `tubelet inspect`) or a configuration file in JSON. Without one, and without weights: what the camera does over time,
    /// by the small model that comes with the program.
    #[arg(long, short)]
    model: Option<String>,
    /// A checkpoint: safetensors, or PyTorch's .pth, .pt, .pyth, .bin. Without one the weights of a given model are random.
    #[arg(long, short)]
    weights: Option<PathBuf>,
    /// How the checkpoint names its tensors; found out if not given.
    #[arg(long)]
    naming: Option<String>,
    /// A file with one class name per line.
    #[arg(long, short)]
    labels: Option<PathBuf>,
    /// How many classes to print.
    #[arg(long, short = 'k', default_value_t = 5)]
    top_k: usize,
    /// Clips × crops to average, like 4x3; default: one.
    #[arg(long, default_value = "1x1", value_parser = views)]
    views: Views,
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32, bf16 or f16.
    #[arg(long, default_value = "f32", value_parser = dtype)]
    dtype: DType,
    /// Seed of random weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn views(text: &str) -> Result<Views, String> {
    let parsed = text.split_once('x').and_then(|(t, x)| Some(Views { clips: t.parse().ok()?, crops: x.parse().ok()? }));
    parsed.filter(|v| v.clips > 0 && v.crops > 0).ok_or_else(|| "expected clips x crops, like 4x3".into())
}

/// An element type to compute in.
pub fn dtype(name: &str) -> Result<DType, String> {
    DType::FLOATS.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| "expected f32, bf16 or f16".into())
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let Some(model_name) = arguments.model.as_deref() else {
        return camera_motion(arguments);
    };
    let config = Config::named(model_name)?;
    let Protocol { sampling, geometry, average: how } = config.protocol();
    let labels = arguments.labels.as_deref().map(read_labels).transpose()?;
    let device = devices::open(&arguments.device)?;
    // The video is decoded before the weights are read: a broken file is told at once.
    let mut source = video::open(&arguments.input)?;
    let clips = video::views(&mut *source, &sampling, &geometry, arguments.views)?;
    let model = match &arguments.weights {
        Some(path) => config.load(&device, arguments.dtype, path, arguments.naming.as_deref())?,
        None => {
            eprintln!(
                "tubelet: WARNING: no --weights given. The weights of {} are RANDOM (seed {}): the classes below mean nothing.",
                model_name, arguments.seed
            );
            config.random(&device, arguments.dtype, arguments.seed)?
        }
    };
    if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != model.classes()) {
        let message = format!("{} names for the {} classes of the model", labels.len(), model.classes());
        return Err(Error::invalid("--labels", message));
    }
    let bar = progress(clips.len() as u64, arguments.json || clips.len() == 1);
    let mut rows = Vec::new();
    for clip in &clips {
        rows.push(logits(&*model, &device, clip)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let best = top_k(&average(&rows, how), arguments.top_k);
    let name = |class: usize| labels.as_ref().map_or_else(|| format!("class {class}"), |labels| labels[class].clone());
    if arguments.json {
        let predictions: Vec<_> =
            best.iter().map(|p| json!({ "class": p.class, "label": name(p.class), "probability": p.probability })).collect();
        say!(
            "{}",
            json!({
                "input": arguments.input, "model": model_name, "views": [arguments.views.clips, arguments.views.crops],
                "random_weights": arguments.weights.is_none(), "predictions": predictions,
            })
        );
        return Ok(true);
    }
    let mut table = Table::new(["probability", "class"]);
    for p in &best {
        table.row([format!("{:.2}%", 100.0 * p.probability), name(p.class)]);
    }
    table.print();
    Ok(true)
}

/// Without a model: what the camera does.
fn camera_motion(arguments: &Arguments) -> Result<bool> {
    if arguments.weights.is_some() || arguments.labels.is_some() {
        return Err(Error::invalid("--model", "weights and labels belong to a model: name it"));
    }
    let device = devices::open(&arguments.device)?;
    let model = CameraMotion::open(&device, arguments.dtype)?;
    let bar = progress(0, arguments.json);
    let segments = model.watch(&mut *video::open(&arguments.input)?, &mut |i, of| {
        bar.set_length(of as u64);
        bar.set_position(i as u64);
    })?;
    bar.finish_and_clear();
    if arguments.json {
        say!("{}", json!({ "input": arguments.input, "model": "camera-motion", "segments": segments }));
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

/// Class names from a file.
pub fn read_labels(path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    parse_labels(&path.display().to_string(), &bytes)
}
