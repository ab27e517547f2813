use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tubelet_models::{
    Error, Result,
    boxed::CameraMotion,
    classify::{Prediction, average, top_k},
    devices,
    engine::DType,
    picture::{Picture, Strip, draw_strips},
    registry::{Config, Protocol},
    rollout::{Rollout, look},
    video::{self, Frames, Views},
};

use crate::{
    classify::{dtype, progress, read_labels},
    table::Table,
};

/// Draw what a model looks at in a video, as a PNG strip.
///
/// For TubeViT, ViViT and VidTr: attention rolled out from what the head reads back to the video. For UniFormerV2: what the queries of its global
/// blocks attend to. Frames above, the same under the colours of attention below, time from left to right; the bars are each column's share.
#[derive(Args)]
pub struct Arguments {
    /// A video, an image, or a folder of images, as for `tubelet classify`.
    input: PathBuf,
    /// The picture: a file that ends in .png.
    #[arg(long, short)]
    out: PathBuf,
    /// A preset (see `tubelet inspect`) or a configuration file in JSON; without one, the camera-motion model that comes with the program.
    #[arg(long, short)]
    model: Option<String>,
    /// A checkpoint. Without one the weights of a given model are random.
    #[arg(long, short)]
    weights: Option<PathBuf>,
    /// How the checkpoint names its tensors; found out if not given.
    #[arg(long)]
    naming: Option<String>,
    /// A file with one class name per line.
    #[arg(long, short)]
    labels: Option<PathBuf>,
    /// Clips over the video, one strip each below the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    clips: u16,
    /// Columns at most; of more frames each column shows several as their mean.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    columns: u16,
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

/// A clip, what is looked at in it, and what it is taken for.
type Look = (Frames, Rollout, Prediction);

pub fn run(arguments: &Arguments) -> Result<bool> {
    Picture::check_path(&arguments.out)?;
    let (looks, names) = if arguments.model.is_some() { given_model(arguments)? } else { camera_motion(arguments)? };
    let strips: Vec<Strip<'_>> = looks.iter().map(|(frames, rollout, _)| Strip { frames, rollout }).collect();
    draw_strips(&strips, usize::from(arguments.columns))?.save(&arguments.out)?;
    let name = |p: &Prediction| names.get(p.class).cloned().unwrap_or_else(|| format!("class {}", p.class));
    if arguments.json {
        let clip = |(_, rollout, best): &Look| {
            json!({
                "class": best.class, "label": name(best), "probability": best.probability, "over_time": rollout.over_time(),
                "class_tokens": rollout.classes, "range": rollout.range(),
            })
        };
        let model = arguments.model.as_deref().unwrap_or("camera-motion");
        let random = arguments.model.is_some() && arguments.weights.is_none();
        let clips = looks.iter().map(clip).collect::<Vec<_>>();
        say!(
            "{}",
            json!({
                "input": arguments.input, "model": model, "random_weights": random, "picture": arguments.out, "clips": clips,
            })
        );
        return Ok(true);
    }
    let mut table = Table::new(["clip", "class", "probability", "least and most, even being 1", "with class tokens"]);
    for (i, (_, rollout, best)) in looks.iter().enumerate() {
        let [least, most] = rollout.range();
        table.row([
            i.to_string(),
            name(best),
            format!("{:.0}%", 100.0 * best.probability),
            format!("{least:.2} to {most:.2}"),
            format!("{:.0}%", 100.0 * rollout.classes),
        ]);
    }
    table.print();
    say!("picture: {}", arguments.out.display());
    Ok(true)
}

fn given_model(arguments: &Arguments) -> Result<(Vec<Look>, Vec<String>)> {
    let config = Config::named(arguments.model.as_deref().unwrap_or_default())?;
    let names = arguments.labels.as_deref().map(read_labels).transpose()?.unwrap_or_default();
    let Protocol { sampling, geometry, average: how } = config.protocol();
    let device = devices::open(&arguments.device)?;
    let mut source = video::open(&arguments.input)?;
    let views = Views { clips: usize::from(arguments.clips), crops: 1 };
    let clips = video::views(&mut *source, &sampling, &geometry, views)?;
    let model = match &arguments.weights {
        Some(path) => config.load(&device, arguments.dtype, path, arguments.naming.as_deref())?,
        None => {
            eprintln!(
                "tubelet: WARNING: no --weights given. The weights are RANDOM (seed {}): the picture means nothing.",
                arguments.seed
            );
            config.random(&device, arguments.dtype, arguments.seed)?
        }
    };
    if !names.is_empty() && names.len() != model.classes() {
        let message = format!("{} names for the {} classes of the model", names.len(), model.classes());
        return Err(Error::invalid("--labels", message));
    }
    let bar = progress(clips.len() as u64, arguments.json || clips.len() == 1);
    let mut looks = Vec::new();
    for clip in clips {
        let (logits, rollout) = look(&*model, &device, &clip)?;
        let best = top_k(&average(&[logits], how), 1).first().copied();
        looks.push((clip, rollout, best.ok_or_else(|| Error::invalid("--model", "it has no classes"))?));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((looks, names))
}

/// Without a model: the one in the box.
fn camera_motion(arguments: &Arguments) -> Result<(Vec<Look>, Vec<String>)> {
    if arguments.weights.is_some() || arguments.labels.is_some() {
        return Err(Error::invalid("--model", "weights and labels belong to a model: name it"));
    }
    let model = CameraMotion::open(&devices::open(&arguments.device)?, arguments.dtype)?;
    let looks = model.look(&mut *video::open(&arguments.input)?, usize::from(arguments.clips))?;
    Ok((looks, model.classes().to_vec()))
}
