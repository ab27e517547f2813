//! When each frame of a video is on display.

use tubelet_engine::{Error, Result};

/// A tick that is at most this long, in seconds, was rounded by the container: Matroska and WebM
/// write milliseconds, whatever the frame rate.
const ROUNDED: f64 = 1e-3;

/// The displayed frames of a video in order, each with the time at which it appears.
///
/// Times begin with 0 at the first displayed frame. They come from presentation timestamps where the
/// video has them, never from the frame count, rate or duration in a header. A video without
/// timestamps, such as a folder of images, has places but no times until a rate is given.
///
/// ```
/// use tubelet_models::video::Timeline;
///
/// // Two frames of 40 ms, and one of 200 ms.
/// let timeline = Timeline::new(&[0, 40, 80], 280, 1e-3)?;
/// assert_eq!(timeline.at(0.05), Some(1));
/// assert_eq!(timeline.at(0.27), Some(2));
/// assert_eq!(timeline.seconds(), Some(0.28));
/// # Ok::<(), tubelet_models::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    starts: Starts,
    /// Seconds of a tick; `None` where frames have no times.
    tick: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Starts {
    /// So many frames, one a tick.
    Even(usize),
    /// The tick at which each frame appears, strictly ascending from 0, and the one at which the
    /// last frame ends.
    At { starts: Vec<i64>, end: i64 },
}

impl Timeline {
    /// Frames that appear at `starts`, of which the last ends at `end`, in ticks of `tick` seconds.
    ///
    /// # Errors
    /// [`Error::Format`] unless the ticks ascend strictly and a tick is a positive number.
    pub fn new(starts: &[i64], end: i64, tick: f64) -> Result<Self> {
        let Some(&first) = starts.first() else { return Ok(Timeline { starts: Starts::Even(0), tick: Some(tick) }) };
        let bounds = starts.iter().skip(1).chain([&end]);
        // A span beyond 2⁵³ ticks would lose digits as f64; no clock runs so fast for so long.
        let spans = end.checked_sub(first).is_some_and(|span| span < 1 << 53);
        if !spans || !tick.is_finite() || tick <= 0.0 || starts.iter().zip(bounds).any(|(a, b)| a >= b) {
            return Err(Error::format("timestamps", "they do not ascend"));
        }
        let starts = starts.iter().map(|start| start - first).collect();
        Ok(Timeline { starts: Starts::At { starts, end: end - first }, tick: Some(tick) })
    }

    /// `frames` frames at `fps` frames per second; without a rate they have no times.
    pub fn even(frames: usize, fps: Option<f64>) -> Self {
        let tick = fps.map(|fps| 1.0 / fps).filter(|tick| tick.is_finite() && *tick > 0.0);
        Timeline { starts: Starts::Even(frames), tick }
    }

    /// The number of displayed frames.
    pub fn len(&self) -> usize {
        match &self.starts {
            Starts::Even(frames) => *frames,
            Starts::At { starts, .. } => starts.len(),
        }
    }

    /// Whether the video has no frames.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether frames have times.
    pub fn is_timed(&self) -> bool {
        self.tick.is_some()
    }

    /// The time at which `frame` appears, in seconds. For the number of frames it is the time at
    /// which the last frame ends. `None` without times and past the end.
    pub fn start(&self, frame: usize) -> Option<f64> {
        let tick = self.tick?;
        let ticks = match &self.starts {
            Starts::Even(frames) => (frame <= *frames).then_some(frame as f64)?,
            Starts::At { starts, end } => starts.get(frame).or((frame == starts.len()).then_some(end)).map(|&at| at as f64)?,
        };
        Some(ticks * tick)
    }

    /// How long the video is on display, in seconds; `None` without times.
    pub fn seconds(&self) -> Option<f64> {
        self.start(self.len())
    }

    /// The frame on display at a time in seconds; the first before the beginning, and the last
    /// after the end. `None` without times and without frames.
    ///
    /// A container that counts in milliseconds rounds times by up to half a millisecond, and a frame
    /// is taken to appear that much earlier; other times are compared to within a microsecond.
    pub fn at(&self, seconds: f64) -> Option<usize> {
        let (tick, last) = (self.tick?, self.len().checked_sub(1)?);
        let slack = if tick <= ROUNDED { tick / 2.0 } else { 1e-6 };
        let ticks = (seconds + slack) / tick;
        let frame = match &self.starts {
            // The cast saturates.
            Starts::Even(_) => ticks as usize,
            Starts::At { starts, .. } => starts.partition_point(|&start| start as f64 <= ticks).saturating_sub(1),
        };
        Some(frame.min(last))
    }

    /// The time from one frame to the next that half of the frames keep at most, in seconds;
    /// `None` without times and without frames.
    pub fn interval(&self) -> Option<f64> {
        let tick = self.tick?;
        match &self.starts {
            Starts::Even(0) => None,
            Starts::Even(_) => Some(tick),
            Starts::At { starts, end } => {
                let mut gaps = gaps(starts, *end);
                gaps.sort_unstable();
                gaps.get(gaps.len() / 2).map(|&gap| gap as f64 * tick)
            }
        }
    }

    /// What is unusual about the times of a video: there are none, or frames are on display for
    /// times that differ by more than rounding. The last frame does not count, because few
    /// containers know how long it lasts.
    pub fn peculiarity(&self) -> Option<String> {
        let Some(tick) = self.tick else { return Some("it has no timestamps".to_owned()) };
        let Starts::At { starts, .. } = &self.starts else { return None };
        let (&last, _) = starts.split_last()?;
        let mut gaps = gaps(starts, last);
        gaps.pop();
        let (shortest, longest) = (gaps.iter().min()?, gaps.iter().max()?);
        let (shortest, longest) = (*shortest as f64 * tick, *longest as f64 * tick);
        // Each time was rounded, to a tick or to a millisecond, so that gaps differ by up to two of these.
        let slack = if tick <= ROUNDED { 2.5 * ROUNDED } else { 1.5 * tick };
        let varies = longest - shortest > slack;
        varies.then(|| format!("its frame rate varies: frames last {:.1} to {:.1} ms", shortest * 1e3, longest * 1e3))
    }
}

/// The ticks for which each frame is on display.
fn gaps(starts: &[i64], end: i64) -> Vec<i64> {
    starts.iter().zip(starts.iter().skip(1).chain([&end])).map(|(a, b)| b - a).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_on_display_is_the_last_that_has_appeared() {
        let timeline = Timeline::new(&[100, 140, 180, 380], 420, 1e-3).unwrap();
        assert_eq!((timeline.len(), timeline.seconds()), (4, Some(0.32)));
        for (seconds, frame) in [(-1.0, 0), (0.0, 0), (0.039, 0), (0.04, 1), (0.08, 2), (0.27, 2), (0.28, 3), (9.0, 3)] {
            assert_eq!(timeline.at(seconds), Some(frame), "{seconds}");
        }
        assert_eq!([0, 3, 4, 5].map(|frame| timeline.start(frame)), [Some(0.0), Some(0.28), Some(0.32), None]);
        assert_eq!(timeline.interval(), Some(0.04));
    }

    #[test]
    fn times_in_whole_milliseconds_choose_what_exact_times_choose() {
        let n = 300;
        let exact = Timeline::even(n, Some(30.0));
        let rounded: Vec<i64> = (0..n).map(|i| (i as f64 * 1000.0 / 30.0).round() as i64).collect();
        let rounded = Timeline::new(&rounded, 10_000, 1e-3).unwrap();
        for i in 0..150 {
            let seconds = f64::from(i) / 15.0;
            assert_eq!((exact.at(seconds), rounded.at(seconds)), (Some(2 * i as usize), Some(2 * i as usize)));
        }
        // A tick that is a frame is exact, so that no slack reaches into the frame before.
        let ntsc = Timeline::even(n, Some(30_000.0 / 1001.0));
        assert_eq!(ntsc.at(1.0 / 15.0), Some(1));
    }

    #[test]
    fn frames_without_times_have_places() {
        let timeline = Timeline::even(9, None);
        assert_eq!((timeline.len(), timeline.at(0.1), timeline.start(1), timeline.interval()), (9, None, None, None));
        assert!(timeline.peculiarity().unwrap().contains("no timestamps"));
        assert!(Timeline::even(0, Some(25.0)).at(0.0).is_none());
    }

    #[test]
    fn times_that_make_no_sense_are_refused() {
        for (starts, end, tick) in
            [(&[0, 0][..], 5, 1.0), (&[0, 2, 1], 5, 1.0), (&[0, 5], 5, 1.0), (&[0], 5, 0.0), (&[i64::MIN], i64::MAX, 1.0)]
        {
            assert!(Timeline::new(starts, end, tick).is_err(), "{starts:?}");
        }
        assert!(Timeline::new(&[], 0, 1.0).unwrap().is_empty());
    }

    #[test]
    fn peculiar_times_are_told() {
        let film = Timeline::new(&[0, 33, 67, 100, 133], 500, 1e-3).unwrap();
        assert_eq!(film.peculiarity(), None);
        let phone = Timeline::new(&[0, 33, 67, 267, 300], 333, 1e-3).unwrap();
        assert!(phone.peculiarity().unwrap().contains("33.0 to 200.0 ms"), "{phone:?}");
        assert_eq!(Timeline::even(5, Some(25.0)).peculiarity(), None);
    }
}
