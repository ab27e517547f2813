//! The model in the box: a small UniFormerV2 that tells what the camera does, trained by the recipe `camera-motion`.

use serde::Serialize;
use tubelet_engine::{DType, Device, Error, Result};

use crate::{
    checkpoint::Checkpoint,
    classify::{Average, Prediction, average, logits, top_k},
    model::Model,
    registry::{Config, Own},
    rollout::{Rollout, look},
    video::{self, Frames, Geometry, Source, Timeline},
};

/// Weights in bf16, with the configuration and the classes in their metadata.
const WEIGHTS: &[u8] = include_bytes!("../weights/camera-motion.safetensors");
/// Frames per second that windows are taken at, by time, where the video is faster: the motion of hand-held cameras and pans is then of the size of
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
    /// The same in seconds, where the video has timestamps or a rate.
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

    /// How windows lie over a video.
    fn grid(&self, source: &mut dyn Source) -> Result<Grid> {
        let frames = self.model.input().frames;
        let name = source.name().to_owned();
        let timeline = source.timeline()?;
        match timeline.len() {
            1 => Err(Error::format(name, "one frame has no motion")),
            n if n < frames => {
                let message = format!("{n} frames are too few for the camera-motion model, which looks at {frames} at a time");
                Err(Error::format(name, message))
            }
            _ => Ok(Grid::new(timeline, frames)),
        }
    }

    /// Windows evenly over a video, [`OVERSAMPLE`] times as large as the model sees them. Without a
    /// number, they overlap by half.
    fn windows(&self, source: &mut dyn Source, windows: Option<usize>) -> Result<Vec<Frames>> {
        self.grid(source)?;
        let large = self.model.input().size.map(|n| n * OVERSAMPLE);
        let geometry = Geometry::ShortSide { short: large[0].min(large[1]), crop: large };
        let frames = self.model.input().frames;
        let choose = |timeline: &Timeline| {
            let grid = Grid::new(timeline, frames);
            Ok(grid.windows(windows.unwrap_or(grid.overlapping())))
        };
        video::read_clips(source, &choose, geometry.output(), &mut |width, height| geometry.plan(width, height, 1))
    }

    /// What the model looks at in `windows` windows, evenly over a video: each with its frames, larger than the model sees them, its class and the
    /// class's probability.
    ///
    /// # Errors
    /// As [`CameraMotion::watch`].
    pub fn look(&self, source: &mut dyn Source, windows: usize) -> Result<Vec<(Frames, Rollout, Prediction)>> {
        let clips = self.windows(source, Some(windows))?;
        let view = |clip: Frames| {
            let (logits, rollout) = look(&*self.model, &self.device, &shrink(&clip))?;
            let best = top_k(&average(&[logits], Average::Logits)?, 1)?.first().copied();
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
    /// Of reading; and for a video of fewer frames than a window has.
    pub fn watch(&self, source: &mut dyn Source, progress: &mut dyn FnMut(usize, usize)) -> Result<Vec<Segment>> {
        let clips = self.windows(source, None)?;
        // Reading may have shown that the video is shorter than its container says.
        let grid = self.grid(source)?;
        let mut segments: Vec<(Segment, usize)> = Vec::new();
        for (i, clip) in clips.iter().enumerate() {
            progress(i, clips.len());
            let probabilities = average(&[logits(&*self.model, &self.device, &shrink(clip))?], Average::Logits)?;
            let best = (0..probabilities.len()).fold(0, |best, c| if probabilities[c] > probabilities[best] { c } else { best });
            let [start, end] = grid.own(i, clips.len());
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
        let timeline = source.timeline()?;
        let timed = |(segment, _): (Segment, usize)| {
            let seconds = timeline.start(segment.start).zip(timeline.start(segment.end)).map(|(start, end)| [start, end]);
            Segment { seconds, ..segment }
        };
        Ok(segments.into_iter().map(timed).collect())
    }
}

/// How windows of frames lie over the time of a video.
struct Grid {
    /// The video's times; where it has none, a second for each frame.
    clock: Timeline,
    frames: usize,
    /// Seconds from one frame of a window to the next.
    step: f64,
}

impl Grid {
    fn new(timeline: &Timeline, frames: usize) -> Self {
        let n = timeline.len();
        let Some(interval) = timeline.interval() else {
            return Grid { clock: Timeline::even(n, Some(1.0)), frames, step: 1.0 };
        };
        // A whole number of frames, where the video keeps its rate.
        let stride = (1.0 / (RATE * interval)).round().max(1.0).min((n / frames.max(1)).max(1) as f64);
        Grid { clock: timeline.clone(), frames, step: stride * interval }
    }

    fn length(&self) -> f64 {
        self.clock.seconds().unwrap_or(0.0)
    }

    fn window(&self) -> f64 {
        self.frames as f64 * self.step
    }

    /// How many windows cover the video, half overlapping.
    fn overlapping(&self) -> usize {
        // Less than a millionth of a window is rounding.
        let more = ((self.length() - self.window()) / (self.window() / 2.0) - 1e-6).ceil().max(0.0);
        (more as usize + 1).min(MOST)
    }

    /// When window `i` of `windows` begins.
    fn begin(&self, i: usize, windows: usize) -> f64 {
        let room = (self.length() - self.window()).max(0.0);
        if windows == 1 { room / 2.0 } else { room * i as f64 / (windows - 1) as f64 }
    }

    /// The frames of each of `windows` windows.
    fn windows(&self, windows: usize) -> Vec<Vec<usize>> {
        let at = |i, k| self.clock.at(self.begin(i, windows) + k as f64 * self.step).unwrap_or(0);
        (0..windows).map(|i| (0..self.frames).map(|k| at(i, k)).collect()).collect()
    }

    /// The frames that window `i` of `windows` decides on, first and end: as far as the middle between
    /// its neighbours' centres and its own.
    fn own(&self, i: usize, windows: usize) -> [usize; 2] {
        let between = |i: usize| {
            let middle = (self.begin(i - 1, windows) + self.begin(i, windows) + self.window()) / 2.0;
            self.clock.at(middle).unwrap_or(0)
        };
        let start = if i == 0 { 0 } else { between(i) };
        [start, if i + 1 == windows { self.clock.len() } else { between(i + 1) }]
    }
}

/// The model's configuration, and its weights in our own naming.
///
/// # Errors
/// None, unless the program was built with broken weights.
pub fn weights() -> Result<(Config, Checkpoint)> {
    let file = Checkpoint::from_bytes(WEIGHTS.to_vec())?;
    let config = serde_json::from_str(&meta(&file, "config")?);
    Ok((config.map_err(|error| Error::format("camera-motion", error.to_string()))?, file))
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
