use std::{ffi::OsStr, path::PathBuf};

use clap::Args;
use serde_json::json;
use tubelet_models::{
    Error, Result,
    boxed::CameraMotion,
    classify::{Prediction, average, top_k},
    devices,
    picture::{Picture, Strip, draw_strips},
    rollout::{Rollout, look},
    video::{self, Frames, Views},
};

use crate::{
    classify::progress,
    source::{Source, warn},
    table::Table,
};

/// Draw what a model looks at in a video, as a PNG strip.
///
/// For TubeViT, ViViT and VidTr: attention rolled out from what the head reads back to the video. For UniFormerV2: what the queries of its global
/// blocks attend to. Frames above, the same under the colours of attention below, time from left to right; the bars are each column's share.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    source: Source,
    /// The picture: a file that ends in .png.
    #[arg(long, short)]
    out: PathBuf,
    /// Clips over the video, one strip each below the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    clips: u16,
    /// Columns at most; of more frames each column shows several as their mean.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    columns: u16,
}

/// A clip, what is looked at in it, what it is taken for, and that class's name.
type Look = (Frames, Rollout, Prediction, String);

pub fn run(arguments: &Arguments) -> Result<bool> {
    Picture::check_path(&arguments.out)?;
    let source = &arguments.source;
    let looks = match source.model.as_deref() {
        Some(name) => given_model(arguments, name)?,
        None => camera_motion(arguments)?,
    };
    let strips: Vec<Strip<'_>> = looks.iter().map(|(frames, rollout, ..)| Strip { frames, rollout }).collect();
    draw_strips(&strips, usize::from(arguments.columns))?.save(&arguments.out)?;
    if source.json {
        let clip = |(_, rollout, best, name): &Look| {
            json!({
                "class": best.class, "label": name, "probability": best.probability, "over_time": rollout.over_time(),
                "class_tokens": rollout.classes, "range": rollout.range(),
            })
        };
        let model = source.model.as_deref().unwrap_or(OsStr::new("camera-motion"));
        let clips = looks.iter().map(clip).collect::<Vec<_>>();
        say!(
            "{}",
            json!({
                "input": source.input.to_string_lossy(), "model": model.to_string_lossy(),
                "random_weights": source.is_random(), "picture": arguments.out.to_string_lossy(), "clips": clips,
            })
        );
        return Ok(true);
    }
    let mut table = Table::new(["clip", "class", "probability", "least and most, even being 1", "with class tokens"]);
    for (i, (_, rollout, best, name)) in looks.iter().enumerate() {
        let [least, most] = rollout.range();
        table.row([
            i.to_string(),
            name.clone(),
            format!("{:.0}%", 100.0 * best.probability),
            format!("{least:.2} to {most:.2}"),
            format!("{:.0}%", 100.0 * rollout.classes),
        ]);
    }
    table.print();
    say!("picture: {}", arguments.out.display());
    Ok(true)
}

fn given_model(arguments: &Arguments, name: &OsStr) -> Result<Vec<Look>> {
    let views = Views { clips: usize::from(arguments.clips), crops: 1 };
    let mut opened = arguments.source.open(name, views, "the picture means")?;
    let bar = progress(opened.clips.len() as u64, arguments.source.json || opened.clips.len() == 1);
    let mut looks = Vec::new();
    for clip in std::mem::take(&mut opened.clips) {
        let (logits, rollout) = look(&*opened.model, &opened.device, &clip)?;
        let best = top_k(&average(&[logits], opened.protocol.average)?, 1)?.first().copied();
        let best = best.ok_or_else(|| Error::invalid("--model", "it has no classes"))?;
        looks.push((clip, rollout, best, opened.name(best.class)));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(looks)
}

/// Without a model: the one in the box.
fn camera_motion(arguments: &Arguments) -> Result<Vec<Look>> {
    let source = &arguments.source;
    source.check_boxed()?;
    let model = CameraMotion::open(&devices::open(&source.device)?, source.dtype)?;
    let mut video = video::open_with(&source.input, &source.reading.options())?;
    let looks = model.look(&mut *video, usize::from(arguments.clips))?;
    warn(&source.input, &video.notes());
    let named =
        |(frames, rollout, best): (Frames, Rollout, Prediction)| (frames, rollout, best, model.classes()[best.class].clone());
    Ok(looks.into_iter().map(named).collect())
}
