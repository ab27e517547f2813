//! From a source to the views of a model: sampling, resizing and cropping in one pass.

use serde::{Deserialize, Serialize};
use tubelet_engine::{Error, Result};

use super::{Frames, Geometry, Plan, Sampling, Source, buffer, geometry::resize_crop, rgb_bytes};

/// How many views of a video a prediction averages: `clips` in time × `crops` in space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Views {
    /// Temporal clips.
    pub clips: usize,
    /// Spatial crops: 1 (centre) or 3 (left, centre, right, or top, centre, bottom).
    pub crops: usize,
}

impl Views {
    /// One: the middle of the video and of the frame.
    pub const CENTRE: Views = Views { clips: 1, crops: 1 };
}

/// Reads all views of a video in one pass, resized and cropped: `clips × crops` items of `[T, H, W, 3]`, the crops of
/// the first clip first. Memory: one source frame, and the views.
///
/// A container may promise more frames than decode (cut-off recordings do): then the clips are chosen again over the
/// frames that are there, with a second pass.
///
/// # Errors
/// Of [`Source`], [`Sampling::indices`] and [`Geometry::plan`].
pub fn views(source: &mut dyn Source, sampling: &Sampling, geometry: &Geometry, views: Views) -> Result<Vec<Frames>> {
    let frames = source.count_frames()?;
    match gather(source, frames, sampling, geometry, views) {
        Err(error) => match source.count_frames()? {
            fewer if fewer < frames => gather(source, fewer, sampling, geometry, views),
            _ => Err(error),
        },
        done => done,
    }
}

fn gather(
    source: &mut dyn Source,
    frames: usize,
    sampling: &Sampling,
    geometry: &Geometry,
    Views { clips, crops }: Views,
) -> Result<Vec<Frames>> {
    let clips = sampling.indices(frames, source.info().fps, clips).map_err(|error| named(source.name(), error))?;
    let [height, width] = geometry.output();
    // Reports wrong sizes before anything is decoded or allocated.
    geometry.plan(source.info().width, source.info().height, crops)?;
    let frame_bytes = rgb_bytes("the geometry", width, height)?;
    let clip_bytes = frame_bytes
        .checked_mul(sampling.frames())
        .ok_or_else(|| Error::Overflow { what: format!("{} frames of {width}×{height}", sampling.frames()) })?;
    let mut out = Vec::new();
    for _ in 0..clips.len() * crops {
        out.push(Frames { width, height, data: buffer(clip_bytes)? });
    }
    let places = Places::new(&clips);
    let mut plan: Option<((usize, usize), Plan)> = None;
    let mut crop = buffer(frame_bytes)?;
    source.visit(&places.wanted(), &mut |frame| {
        let size = (frame.width, frame.height);
        let plan = match &mut plan {
            Some((known, plan)) if *known == size => plan,
            slot => &mut slot.insert((size, geometry.plan(frame.width, frame.height, crops)?)).1,
        };
        for (x, rect) in plan.crops.iter().enumerate() {
            resize_crop(frame.data, size, (plan.width, plan.height), *rect, &mut crop)?;
            for (clip, position) in places.of(frame.index) {
                out[clip * crops + x].data[position * frame_bytes..][..frame_bytes].copy_from_slice(&crop);
            }
        }
        Ok(())
    })?;
    Ok(out)
}

/// The frames at `indices`; see [`Source::read`].
pub(super) fn read<S: Source + ?Sized>(source: &mut S, indices: &[usize]) -> Result<Frames> {
    let places = Places::new(&[indices]);
    let mut out = Frames { width: 0, height: 0, data: Vec::new() };
    let mut frame_bytes = 0;
    let name = source.name().to_owned();
    source.visit(&places.wanted(), &mut |frame| {
        if out.data.is_empty() {
            (out.width, out.height) = (frame.width, frame.height);
            frame_bytes = frame.data.len();
            let bytes = frame_bytes
                .checked_mul(indices.len())
                .ok_or_else(|| Error::Overflow { what: format!("{} frames of {name}", indices.len()) })?;
            out.data = buffer(bytes)?;
        }
        if (out.width, out.height) != (frame.width, frame.height) {
            let message =
                format!("frame {} is {}×{}, the first was {}×{}", frame.index, frame.width, frame.height, out.width, out.height);
            return Err(Error::format(&name, message));
        }
        for (_, position) in places.of(frame.index) {
            out.data[position * frame_bytes..][..frame_bytes].copy_from_slice(frame.data);
        }
        Ok(())
    })?;
    Ok(out)
}

/// Where each frame goes: (frame, clip, position in the clip), by frame.
struct Places(Vec<(usize, usize, usize)>);

impl Places {
    fn new(clips: &[impl AsRef<[usize]>]) -> Self {
        let mut places: Vec<_> = clips
            .iter()
            .enumerate()
            .flat_map(|(clip, indices)| {
                indices.as_ref().iter().enumerate().map(move |(position, &frame)| (frame, clip, position))
            })
            .collect();
        places.sort_unstable();
        Places(places)
    }

    /// The frames, ascending, each once.
    fn wanted(&self) -> Vec<usize> {
        let mut wanted: Vec<_> = self.0.iter().map(|&(frame, ..)| frame).collect();
        wanted.dedup();
        wanted
    }

    fn of(&self, frame: usize) -> impl Iterator<Item = (usize, usize)> {
        let start = self.0.partition_point(|&(other, ..)| other < frame);
        self.0[start..].iter().take_while(move |&&(other, ..)| other == frame).map(|&(_, clip, position)| (clip, position))
    }
}

/// Puts the name of the video before an error that only knows its length.
fn named(name: &str, error: Error) -> Error {
    match error {
        Error::Invalid { what, message } => Error::Invalid { what: format!("{name}: {what}"), message },
        Error::Format { what, message } => Error::Format { what: format!("{name}: {what}"), message },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Frame, FrameCount, Sink, VideoInfo, check_wanted, ended_early};
    use super::*;

    /// A video of 4×2 pixels whose frame `i` is filled with `i`, with a container that promises `promised` frames.
    struct Counter {
        info: VideoInfo,
        frames: usize,
        passes: usize,
    }

    impl Counter {
        fn new(frames: usize, promised: usize) -> Self {
            let info = VideoInfo { width: 4, height: 2, frames: FrameCount::Exact(promised), fps: Some(25.0) };
            Counter { info, frames, passes: 0 }
        }
    }

    impl Source for Counter {
        fn name(&self) -> &str {
            "counter"
        }
        fn info(&self) -> &VideoInfo {
            &self.info
        }
        fn count_frames(&mut self) -> Result<usize> {
            match self.info.frames {
                FrameCount::Exact(frames) => Ok(frames),
                _ => Ok(self.frames),
            }
        }
        fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()> {
            check_wanted(wanted)?;
            self.passes += 1;
            for &index in wanted {
                if index >= self.frames {
                    self.info.frames = FrameCount::Exact(self.frames);
                    return Err(ended_early("counter", self.frames, index));
                }
                sink(Frame { index, width: 4, height: 2, data: &[u8::try_from(index).unwrap(); 24] })?;
            }
            Ok(())
        }
    }

    fn ids(frames: &Frames) -> Vec<u8> {
        frames.data.chunks(frames.width * frames.height * 3).map(|frame| frame[0]).collect()
    }

    #[test]
    fn read_keeps_order_and_repetitions() {
        let mut source = Counter::new(10, 10);
        let frames = source.read(&[7, 2, 2, 9, 0]).unwrap();
        assert_eq!((frames.len(), frames.width, frames.height), (5, 4, 2));
        assert_eq!(ids(&frames), [7, 2, 2, 9, 0]);
        assert_eq!(source.passes, 1);
        assert!(source.read(&[]).unwrap().is_empty());
        assert!(source.read(&[10]).unwrap_err().to_string().contains("frame 10"));
    }

    #[test]
    fn views_come_clip_by_clip_in_one_pass() {
        let mut source = Counter::new(20, 20);
        let geometry = Geometry::ShortSide { short: 2, crop: [2, 2] };
        let sampling = Sampling::Dense { frames: 4, stride: 2 };
        let out = views(&mut source, &sampling, &geometry, Views { clips: 3, crops: 3 }).unwrap();
        assert_eq!(out.len(), 9);
        // Offsets 0, 6, 12 = linspace(0, 20 − 4·2, 3).
        for crop in 0..3 {
            assert_eq!(ids(&out[crop]), [0, 2, 4, 6]);
            assert_eq!(ids(&out[3 + crop]), [6, 8, 10, 12]);
            assert_eq!(ids(&out[6 + crop]), [12, 14, 16, 18]);
        }
        assert_eq!(source.passes, 1);
    }

    #[test]
    fn a_container_that_promises_too_much_is_sampled_again() {
        let mut source = Counter::new(10, 20);
        let geometry = Geometry::Squash { size: [2, 2] };
        let out = views(&mut source, &Sampling::Dense { frames: 4, stride: 2 }, &geometry, Views { clips: 2, crops: 1 }).unwrap();
        assert_eq!(out.iter().map(ids).collect::<Vec<_>>(), [[0, 2, 4, 6], [2, 4, 6, 8]]);
        assert_eq!(source.passes, 2);
    }

    #[test]
    fn no_frames_is_an_error_with_the_name() {
        let mut source = Counter::new(0, 0);
        let geometry = Geometry::Squash { size: [2, 2] };
        let error = views(&mut source, &Sampling::Sparse { frames: 4 }, &geometry, Views { clips: 1, crops: 1 }).unwrap_err();
        assert!(error.to_string().contains("counter") && error.to_string().contains("no frames"), "{error}");
    }
}
