//! The model in the box: a small UniFormerV2 that tells what the camera does, trained by the recipe `camera-motion`.

use serde::Serialize;
use tubelet_engine::{DType, Device, Error, Result};

use crate::{
    checkpoint::Checkpoint,
    classify::{Average, Prediction, average, logits, top_k},
    model::Model,
    registry::{Config, Own},
    rollout::{Rollout, look},
    video::{self, Frames, Geometry, Sampling, Source, Views},
};

/// Weights in bf16, with the configuration and the classes in their metadata.
const WEIGHTS: &[u8] = include_bytes!("../weights/camera-motion.safetensors");
/// Frames per second that windows are taken at, where the video is faster: the motion of hand-held cameras and pans is then of the size of
/// what the model was trained on.
const RATE: f64 = 12.5;
/// Pixels of a frame along each side for one of the model's: averaged away, so that fine texture does not flicker.
const OVERSAMPLE: usize = 4;
/// Windows of a video at most.
const MOST: usize = 512;

/// The model, its classes, and where it runs.
pub struct CameraMotion {
    model: Box<dyn Model>,
    classes: Vec<String>,
    device: Device,
}

/// What the camera does for a while.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Segment {
    /// The first frame.
    pub start: usize,
    /// The frame after the last.
    pub end: usize,
    /// The same in seconds, where the video has a frame rate.
    pub seconds: Option<[f64; 2]>,
    /// The class.
    pub label: String,
    /// Its mean probability.
    pub probability: f32,
}

impl CameraMotion {
    /// The model on a device.
    ///
    /// # Errors
    /// Of the device.
    pub fn open(device: &Device, dtype: DType) -> Result<Self> {
        let (config, file) = weights()?;
        let classes: Vec<String> = meta(&file, "labels")?.lines().map(str::to_owned).collect();
        let model = config.with_naming(device, dtype, &file, &Own)?;
        if classes.len() != model.classes() {
            return Err(Error::format("camera-motion", format!("{} names for {} classes", classes.len(), model.classes())));
        }
        Ok(CameraMotion { model, classes, device: device.clone() })
    }

    /// Frames of a video, and how far apart the model wants them.
    fn stride(&self, source: &mut dyn Source) -> Result<(usize, usize)> {
        let (n, frames) = (source.count_frames()?, self.model.input().frames);
        if n < 2 {
            return Err(Error::format(source.name(), "one frame has no motion"));
        }
        let wanted = source.info().fps.map_or(1, |fps| (fps / RATE).round().max(1.0) as usize);
        Ok((n, wanted.min((n / frames).max(1))))
    }

    /// Windows evenly over a video, [`OVERSAMPLE`] times as large as the model sees them.
    fn windows(&self, source: &mut dyn Source, stride: usize, windows: usize) -> Result<Vec<Frames>> {
        let large = self.model.input().size.map(|n| n * OVERSAMPLE);
        let geometry = Geometry::ShortSide { short: large[0].min(large[1]), crop: large };
        let sampling = Sampling::Dense { frames: self.model.input().frames, stride };
        video::views(source, &sampling, &geometry, Views { clips: windows, crops: 1 })
    }

    /// What the model looks at in `windows` windows, evenly over a video: each with its frames, larger than the model sees them, its class and the
    /// class's probability.
    ///
    /// # Errors
    /// As [`CameraMotion::watch`].
    pub fn look(&self, source: &mut dyn Source, windows: usize) -> Result<Vec<(Frames, Rollout, Prediction)>> {
        let (_, stride) = self.stride(source)?;
        let clips = self.windows(source, stride, windows)?;
        let view = |clip: Frames| {
            let (logits, rollout) = look(&*self.model, &self.device, &shrink(&clip))?;
            let best = top_k(&average(&[logits], Average::Logits), 1).first().copied();
            Ok((clip, rollout, best.ok_or_else(|| Error::invalid("camera-motion", "no class"))?))
        };
        clips.into_iter().map(view).collect()
    }

    /// The classes, by number.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// What the camera does over the time of a video: a class for each window of frames, half overlapping, and neighbours of one class as one
    /// segment. `progress` is told of each window, and of how many there are.
    ///
    /// # Errors
    /// Of reading; and for a single image, which has no motion.
    pub fn watch(&self, source: &mut dyn Source, progress: &mut dyn FnMut(usize, usize)) -> Result<Vec<Segment>> {
        let (n, stride) = self.stride(source)?;
        let (fps, window) = (source.info().fps, self.model.input().frames * stride);
        let windows = (n.saturating_sub(window).div_ceil((window / 2).max(1)) + 1).min(MOST);
        let clips = self.windows(source, stride, windows)?;
        let mut segments: Vec<(Segment, usize)> = Vec::new();
        for (i, clip) in clips.iter().enumerate() {
            progress(i, clips.len());
            let probabilities = average(&[logits(&*self.model, &self.device, &shrink(clip))?], Average::Logits);
            let best = (0..probabilities.len()).fold(0, |best, c| if probabilities[c] > probabilities[best] { c } else { best });
            // The window's own half: as far as the middle between its neighbours' centres and its own.
            let centre = |i: usize| if windows == 1 { n / 2 } else { n.saturating_sub(window) * i / (windows - 1) + window / 2 };
            let start = if i == 0 { 0 } else { (centre(i - 1) + centre(i)) / 2 };
            let end = if i + 1 == windows { n } else { (centre(i) + centre(i + 1)) / 2 };
            let label = &self.classes[best];
            match segments.last_mut().filter(|(last, _)| last.label == *label) {
                Some((last, count)) => {
                    last.end = end;
                    last.probability += (probabilities[best] - last.probability) / (*count + 1) as f32;
                    *count += 1;
                }
                None => {
                    let segment = Segment { start, end, seconds: None, label: label.clone(), probability: probabilities[best] };
                    segments.push((segment, 1));
                }
            }
        }
        let timed = |(segment, _): (Segment, usize)| {
            let seconds = fps.filter(|&fps| fps > 0.0).map(|fps| [segment.start as f64 / fps, segment.end as f64 / fps]);
            Segment { seconds, ..segment }
        };
        Ok(segments.into_iter().map(timed).collect())
    }
}

/// The model's configuration, and its weights in our own naming.
///
/// # Errors
/// None, unless the program was built with broken weights.
pub fn weights() -> Result<(Config, Checkpoint)> {
    let file = Checkpoint::from_bytes(WEIGHTS.to_vec())?;
    let config = serde_json::from_str(&meta(&file, "config")?);
    Ok((config.map_err(|error| Error::format("camera-motion", error.to_string()))?, file.state_dict()))
}

fn meta(file: &Checkpoint, key: &str) -> Result<String> {
    file.metadata().get(key).cloned().ok_or_else(|| Error::format("camera-motion", format!("no {key}")))
}

/// Every block of [`OVERSAMPLE`]² pixels averaged.
fn shrink(clip: &Frames) -> Frames {
    let (width, height) = (clip.width / OVERSAMPLE, clip.height / OVERSAMPLE);
    let mut data = Vec::with_capacity(clip.len() * width * height * 3);
    for frame in clip.data.chunks_exact(clip.width * clip.height * 3) {
        for i in 0..height * width {
            for c in 0..3 {
                let (y, x) = (i / width * OVERSAMPLE, i % width * OVERSAMPLE);
                let block = (0..OVERSAMPLE).flat_map(|dy| (0..OVERSAMPLE).map(move |dx| (dy, dx)));
                let sum: u32 = block.map(|(dy, dx)| u32::from(frame[((y + dy) * clip.width + x + dx) * 3 + c])).sum();
                data.push((sum as f32 / (OVERSAMPLE * OVERSAMPLE) as f32).round() as u8);
            }
        }
    }
    Frames { width, height, data }
}
