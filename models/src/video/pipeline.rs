//! From a source to the views of a model: sampling, resizing and cropping in one pass.

use serde::{Deserialize, Serialize};
use tubelet_engine::{Error, Result};

use super::{Frames, Geometry, Note, Plan, Sampling, Source, Timeline, buffer, geometry::resize_crop, rgb_bytes};

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

/// The views of a video, and what their user should know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Viewed {
    /// `[T, H, W, 3]` each, the crops of the first clip first.
    pub clips: Vec<Frames>,
    /// Damage, assumed times, and a video that is shorter than a clip.
    pub notes: Vec<Note>,
}

/// Reads all views of a video in one pass, resized and cropped while frames are decoded:
/// `clips × crops` items, the crops of the first clip first. Memory: one source frame, and the views.
///
/// Where decoding shows that the video has other frames than its container says, as cut-off recordings
/// do, the clips are chosen again over the frames that are there.
///
/// # Errors
/// Of [`Source`], [`Sampling::clips`] and [`Geometry::plan`].
pub fn views(source: &mut dyn Source, sampling: &Sampling, geometry: &Geometry, views: Views) -> Result<Viewed> {
    let choose = |timeline: &Timeline| sampling.clips(timeline, views.clips);
    let plan = &mut |width, height| geometry.plan(width, height, views.crops);
    let clips = read_clips(source, &choose, geometry.output(), plan)?;
    let notes = read_notes(source, sampling)?;
    Ok(Viewed { clips, notes })
}

/// What the user of a clip should know of the video it was read from.
///
/// # Errors
/// Of [`Source::timeline`].
pub fn read_notes(source: &mut dyn Source, sampling: &Sampling) -> Result<Vec<Note>> {
    let short = sampling.shortfall(source.timeline()?).map(Note::Short);
    Ok(source.notes().into_iter().chain(short).collect())
}

/// Chooses the frames of clips from the times of a video: `[C][T]`.
pub type Choose<'a> = dyn Fn(&Timeline) -> Result<Vec<Vec<usize>>> + 'a;

/// Says how a frame of a width and a height is resized, and which crops are taken from it.
pub type PlanFrame<'a> = dyn FnMut(usize, usize) -> Result<Plan> + 'a;

/// Reads clips in one pass, resized and cropped to `output` (`[H, W]`) while frames are decoded, as
/// [`views`] does with a fixed geometry. `plan` is asked once for each size of frames, and gives the
/// same number of crops each time.
///
/// # Errors
/// Of [`Source`], `choose` and `plan`.
pub fn read_clips(
    source: &mut dyn Source,
    choose: &Choose<'_>,
    output: [usize; 2],
    plan: &mut PlanFrame<'_>,
) -> Result<Vec<Frames>> {
    let before = source.timeline()?.clone();
    match gather(source, choose, output, plan) {
        Err(error) if *source.timeline()? == before => Err(error),
        Err(_) => gather(source, choose, output, plan),
        done => done,
    }
}

fn gather(source: &mut dyn Source, choose: &Choose<'_>, output: [usize; 2], plan: &mut PlanFrame<'_>) -> Result<Vec<Frames>> {
    let name = source.name().to_owned();
    let clips = choose(source.timeline()?).map_err(|error| named(&name, error))?;
    // Reports wrong sizes before anything is decoded or allocated.
    let size = (source.info().width, source.info().height);
    let mut known = (size, plan(size.0, size.1)?);
    let crops = known.1.crops.len();
    let frame_bytes = rgb_bytes("the geometry", output[1], output[0])?;
    let mut out = allocate(&clips, crops, output, frame_bytes)?;
    let places = Places::new(&clips);
    let mut crop = buffer(frame_bytes)?;
    source.visit(&places.wanted(), &mut |frame| {
        let size = (frame.width, frame.height);
        if known.0 != size {
            known = (size, plan(frame.width, frame.height)?);
        }
        let plan = &known.1;
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

/// Room for `crops` crops of each clip.
fn allocate(clips: &[Vec<usize>], crops: usize, [height, width]: [usize; 2], frame_bytes: usize) -> Result<Vec<Frames>> {
    let mut out = Vec::new();
    for clip in clips {
        let bytes = frame_bytes
            .checked_mul(clip.len())
            .ok_or_else(|| Error::Overflow { what: format!("{} frames of {width}×{height}", clip.len()) })?;
        for _ in 0..crops {
            out.push(Frames { width, height, data: buffer(bytes)? });
        }
    }
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
    use super::super::{Frame, Sink, VideoInfo, check_wanted, ended_early};
    use super::*;

    /// A video of 4×2 pixels whose frame `i` is filled with `i`, with a container that promises `promised` frames.
    struct Counter {
        info: VideoInfo,
        timeline: Timeline,
        frames: usize,
        passes: usize,
    }

    impl Counter {
        fn new(frames: usize, promised: usize) -> Self {
            let timeline = Timeline::even(promised, Some(25.0));
            Counter { info: VideoInfo { width: 4, height: 2 }, timeline, frames, passes: 0 }
        }
    }

    impl Source for Counter {
        fn name(&self) -> &str {
            "counter"
        }
        fn info(&self) -> &VideoInfo {
            &self.info
        }
        fn timeline(&mut self) -> Result<&Timeline> {
            Ok(&self.timeline)
        }
        fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()> {
            check_wanted(wanted)?;
            self.passes += 1;
            for &index in wanted {
                if index >= self.frames {
                    self.timeline = Timeline::even(self.frames, Some(25.0));
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
        let out = views(&mut source, &sampling, &geometry, Views { clips: 3, crops: 3 }).unwrap().clips;
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
        let out =
            views(&mut source, &Sampling::Dense { frames: 4, stride: 2 }, &geometry, Views { clips: 2, crops: 1 }).unwrap().clips;
        assert_eq!(out.iter().map(ids).collect::<Vec<_>>(), [[0, 2, 4, 6], [2, 4, 6, 8]]);
        assert_eq!(source.passes, 2);
    }

    #[test]
    fn a_video_shorter_than_a_clip_is_told() {
        let geometry = Geometry::Squash { size: [2, 2] };
        let notes =
            |frames, sampling| views(&mut Counter::new(frames, frames), &sampling, &geometry, Views::CENTRE).unwrap().notes;
        assert_eq!(notes(4, Sampling::Sparse { frames: 4 }), []);
        assert_eq!(notes(7, Sampling::Dense { frames: 4, stride: 2 }), []);
        assert_eq!(notes(7, Sampling::Rate { frames: 4, fps: 12.5 }), []);
        for sampling in [
            Sampling::Sparse { frames: 7 },
            Sampling::Dense { frames: 4, stride: 2 },
            Sampling::Segments { frames: 4, stride: 2 },
            Sampling::Rate { frames: 4, fps: 12.5 },
        ] {
            let notes = notes(6, sampling);
            assert!(matches!(&notes[..], [Note::Short(text)] if text.contains("frames repeat")), "{sampling:?}: {notes:?}");
        }
    }

    #[test]
    fn no_frames_is_an_error_with_the_name() {
        let mut source = Counter::new(0, 0);
        let geometry = Geometry::Squash { size: [2, 2] };
        let error = views(&mut source, &Sampling::Sparse { frames: 4 }, &geometry, Views { clips: 1, crops: 1 }).unwrap_err();
        assert!(error.to_string().contains("counter") && error.to_string().contains("no frames"), "{error}");
    }
}
