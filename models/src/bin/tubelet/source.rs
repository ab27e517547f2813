use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use tubelet_models::{
    Error, Result,
    checkpoint::Checkpoint,
    classify::parse_labels,
    devices,
    engine::{DType, Device},
    model::Model,
    registry::{Config, Protocol},
    video::{self, Damaged, Frames, Note, Views},
    weights::{Choice, Weights},
};

/// What a command that looks at a video is told of it and of the model.
#[derive(Args)]
pub struct Source {
    /// A video (mp4, mkv, webm, avi … through an installed ffmpeg; y4m natively), an image, or a folder of images.
    pub input: PathBuf,
    /// A preset (see `tubelet inspect`) or a configuration file in JSON. Without one, and without weights: what the camera does over time,
    /// by the small model that comes with the program.
    #[arg(long, short)]
    pub model: Option<OsString>,
    /// A checkpoint: safetensors, or PyTorch's .pth, .pt, .pyth, .bin. Without one the weights of a given model are random.
    #[arg(long, short)]
    pub weights: Option<PathBuf>,
    /// How the checkpoint names its tensors; found out if not given.
    #[arg(long)]
    naming: Option<String>,
    /// Which dictionary of the checkpoint holds the weights: its path, such as model or teacher.module. Without it the one that fits the
    /// model; of several, averaged weights before raw ones, which a line on standard error tells.
    #[arg(long, value_name = "KEY", requires = "weights")]
    state_dict: Option<String>,
    /// A file of class names: one per line, a JSON list, a JSON map from or to indices, or lines of a name and its index.
    #[arg(long, short)]
    labels: Option<PathBuf>,
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// f32, bf16 or f16.
    #[arg(long, default_value = "f32", value_parser = dtype)]
    pub dtype: DType,
    /// Seed of random weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub reading: Reading,
}

/// How videos are read.
#[derive(Args, Clone)]
pub struct Reading {
    /// Frames per second of a source without timestamps, such as a folder of images.
    #[arg(long)]
    fps: Option<f64>,
    /// What to do with a video of which a part cannot be decoded: use the rest with a warning, or refuse the video.
    #[arg(long, default_value = "use", value_parser = damaged)]
    damaged: Damaged,
}

impl Reading {
    /// As the library is told.
    pub fn options(&self) -> video::Options {
        video::Options { fps: self.fps, damaged: self.damaged, threads: None }
    }
}

fn damaged(name: &str) -> Result<Damaged, String> {
    match name {
        "use" => Ok(Damaged::Use),
        "refuse" => Ok(Damaged::Refuse),
        _ => Err("expected use or refuse".into()),
    }
}

/// Prints what the user of a video should know of it.
pub fn warn(input: &Path, notes: &[Note]) {
    for note in notes {
        eprintln!("tubelet: WARNING: {}: {note}", input.display());
    }
}

/// An element type to compute in.
pub fn dtype(name: &str) -> Result<DType, String> {
    DType::FLOATS.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| "expected f32, bf16 or f16".into())
}

/// A number of clips: at least one.
pub fn clips(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number of at least 1".into())
}

/// A model, what it is to see, and the names of its classes.
pub struct Opened {
    pub device: Device,
    pub model: Box<dyn Model>,
    pub protocol: Protocol,
    pub clips: Vec<Frames>,
    /// What the user should know of the video.
    pub notes: Vec<Note>,
    /// The time that reading it took.
    pub decoding: Duration,
    names: Vec<String>,
}

impl Opened {
    /// The name of a class.
    pub fn name(&self, class: usize) -> String {
        self.names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }
}

impl Source {
    /// Whether the weights of the model are random.
    pub fn is_random(&self) -> bool {
        self.model.is_some() && self.weights.is_none()
    }

    /// The model called `name`, and the views of the video; what comes out of random weights is called `outcome` in the warning.
    pub fn open(&self, name: &OsStr, views: Views, outcome: &str) -> Result<Opened> {
        let config = Config::named(name)?;
        let protocol = config.protocol();
        let names = self.labels.as_deref().map(read_labels).transpose()?;
        let device = devices::open(&self.device)?;
        // The video is decoded before the weights are read: a broken file is told at once.
        let began = Instant::now();
        let mut source = video::open_with(&self.input, &self.reading.options())?;
        let video::Viewed { clips, notes } = video::views(&mut *source, &protocol.sampling, &protocol.geometry, views)?;
        let decoding = began.elapsed();
        warn(&self.input, &notes);
        let model = match &self.weights {
            Some(path) => {
                let choice = Choice { naming: self.naming.as_deref(), state_dict: self.state_dict.as_deref() };
                open_weights(&config, path, choice)?.build(&config, &device, self.dtype)?
            }
            None => {
                let (seed, name) = (self.seed, name.to_string_lossy());
                eprintln!(
                    "tubelet: WARNING: no --weights given. The weights of {name} are RANDOM (seed {seed}): {outcome} nothing."
                );
                config.random(&device, self.dtype, seed)?
            }
        };
        if let Some(names) = names.as_ref().filter(|names| names.len() != model.classes()) {
            let message = format!("{} names for the {} classes of the model", names.len(), model.classes());
            return Err(Error::invalid("--labels", message));
        }
        Ok(Opened { device, model, protocol, clips, notes, decoding, names: names.unwrap_or_default() })
    }

    /// An error where something is said of a model that is not named: the one in the box has weights and labels of its own.
    pub fn check_boxed(&self) -> Result<()> {
        if self.weights.is_some() || self.labels.is_some() {
            return Err(Error::invalid("--model", "weights and labels belong to a model: name it"));
        }
        Ok(())
    }
}

/// The weights of a model; where there was a choice, a line on standard error says which were taken.
pub fn open_weights(config: &Config, path: &Path, choice: Choice<'_>) -> Result<Weights> {
    find_weights(config, Checkpoint::open(path)?, choice)
}

/// As [`open_weights`], in a checkpoint that is open.
pub fn find_weights(config: &Config, checkpoint: Checkpoint, choice: Choice<'_>) -> Result<Weights> {
    let weights = Weights::find(config, checkpoint, choice)?;
    if let Some(note) = &weights.note {
        eprintln!("tubelet: {note}");
    }
    Ok(weights)
}

/// Class names from a file.
fn read_labels(path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    parse_labels(&path.display().to_string(), &bytes)
}
