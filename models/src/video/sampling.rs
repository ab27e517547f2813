//! Which frames make a clip.
//!
//! Each rule is the published code's, in f64 as there, so that the same video gives the same frames.
//! [`Sampling::Sparse`], [`Sampling::Dense`] and [`Sampling::Segments`] count displayed frames;
//! [`Sampling::Rate`] goes by their times.

use serde::{Deserialize, Serialize};
use tubelet_engine::{Error, Result};

use super::Timeline;

/// More frames in a clip, or clips in a video, than any model takes: a slip in a configuration, refused before allocating.
const MAX_FRAMES: usize = 1 << 16;
const MAX_CLIPS: usize = 1 << 10;

/// How the T frames of each of C clips are chosen from the n frames of a video.
///
/// A video of one frame (an image) repeats it T times under every rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Sampling {
    /// Uniform over the whole video, one frame for each of T segments, as TSN and UniFormerV2 do.
    ///
    /// With the segment length `s = (n − 1)/T`, frame i of clip c is `round(s·i) + ⌊s/(C + 1)·(c + 1)⌋`, at most `n − 1`;
    /// a half rounds to even, as numpy does.
    Sparse {
        /// T.
        frames: usize,
    },
    /// T frames at a stride, as ViViT does (DMVR's `sample_linspace_sequence`).
    ///
    /// Clip c starts at `⌊(n − T·stride)₊·c/(C − 1)⌋`, a single clip at `⌊(n − T·stride)₊/2⌋`; frame i lies `i·stride`
    /// later. A video that is too short is looped.
    Dense {
        /// T.
        frames: usize,
        /// Distance of consecutive frames.
        stride: usize,
    },
    /// T frames at a stride, from C segments, as VidTr does (64-frame windows: T·stride = 64).
    ///
    /// Clip c starts at `⌊(n − T·stride + 1)/C·c⌋`, at 0 where `n < T·stride`; each frame lies `stride` after the one
    /// before, or repeats it where the video ends.
    Segments {
        /// T.
        frames: usize,
        /// Distance of consecutive frames.
        stride: usize,
    },
    /// T frames at a frame rate, as TubeViT takes them (64 at 15 per second; the paper leaves the clips open).
    ///
    /// In a video of L seconds, clip c starts at `o = (L − T/fps)₊·c/(C − 1)`, a single clip at
    /// `(L − T/fps)₊/2`; frame i is the one on display at `o + i/fps` ([`Timeline::at`]), whatever the
    /// rate of the video, and whether or not it varies. A video that is too short is looped.
    Rate {
        /// T.
        frames: usize,
        /// Frames per second.
        fps: f64,
    },
}

impl Sampling {
    /// Frames in a clip, T.
    pub fn frames(&self) -> usize {
        match *self {
            Sampling::Sparse { frames }
            | Sampling::Dense { frames, .. }
            | Sampling::Segments { frames, .. }
            | Sampling::Rate { frames, .. } => frames,
        }
    }

    /// The frames of each of `clips` clips of a video: `[C][T]`, each below the number of frames.
    ///
    /// # Errors
    /// [`Error::Format`] for a video without frames, [`Error::Invalid`] for parameters out of range and for
    /// [`Sampling::Rate`] on a video whose frames have no times.
    pub fn clips(&self, timeline: &Timeline, clips: usize) -> Result<Vec<Vec<usize>>> {
        self.validate()?;
        if !(1..=MAX_CLIPS).contains(&clips) {
            return Err(Error::invalid("clips", format!("{clips} is not within 1..={MAX_CLIPS}")));
        }
        let n = timeline.len();
        if n == 0 {
            return Err(Error::format("video", "has no frames"));
        }
        if n == 1 {
            return Ok(vec![vec![0; self.frames()]; clips]);
        }
        (0..clips)
            .map(|clip| match *self {
                Sampling::Sparse { frames } => Ok(sparse(n, frames, clip, clips)),
                Sampling::Dense { frames, stride } => Ok(dense(n, frames, stride, clip, clips)),
                Sampling::Segments { frames, stride } => Ok(segment(n, frames, stride, clip, clips)),
                Sampling::Rate { frames, fps } => rate(timeline, frames, fps, clip, clips),
            })
            .collect()
    }

    /// Why a clip of this video repeats frames, if it does: the video is shorter than the clip.
    pub fn shortfall(&self, timeline: &Timeline) -> Option<String> {
        let n = timeline.len();
        let span = match *self {
            Sampling::Sparse { frames } => frames,
            // Past the last frame of a clip nothing is needed.
            Sampling::Dense { frames, stride } | Sampling::Segments { frames, stride } => {
                frames.saturating_sub(1).saturating_mul(stride).saturating_add(1)
            }
            Sampling::Rate { frames, fps } => {
                let (seconds, wanted) = (timeline.seconds()?, frames.saturating_sub(1) as f64 / fps);
                // The frame at the last moment is on display up to the end.
                return (seconds <= wanted).then(|| {
                    format!("the video lasts {seconds:.2} s, a clip {wanted:.2} s ({frames} frames at {fps} per second): frames repeat")
                });
            }
        };
        (n < span).then(|| format!("the video has {n} frames, a clip spans {span}: frames repeat"))
    }

    fn validate(&self) -> Result<()> {
        if !(1..=MAX_FRAMES).contains(&self.frames()) {
            return Err(Error::invalid("sampling.frames", format!("{} is not within 1..={MAX_FRAMES}", self.frames())));
        }
        match *self {
            Sampling::Dense { stride, .. } | Sampling::Segments { stride, .. } if !(1..=MAX_FRAMES).contains(&stride) => {
                Err(Error::invalid("sampling.stride", format!("{stride} is not within 1..={MAX_FRAMES}")))
            }
            Sampling::Rate { fps, .. } if !(fps.is_finite() && fps > 0.0) => {
                Err(Error::invalid("sampling.fps", format!("{fps} is not a positive number")))
            }
            _ => Ok(()),
        }
    }
}

fn sparse(n: usize, frames: usize, clip: usize, clips: usize) -> Vec<usize> {
    let segment = (n - 1) as f64 / frames as f64;
    let shift = (segment / (clips + 1) as f64 * (clip + 1) as f64) as usize;
    (0..frames).map(|i| ((segment * i as f64).round_ties_even() as usize + shift).min(n - 1)).collect()
}

fn dense(n: usize, frames: usize, stride: usize, clip: usize, clips: usize) -> Vec<usize> {
    let room = n.saturating_sub(frames * stride);
    // Whole numbers: the same as flooring an exact linspace.
    let offset = if clips == 1 { room / 2 } else { (room as u128 * clip as u128 / (clips - 1) as u128) as usize };
    (0..frames).map(|i| (offset + i * stride) % n).collect()
}

fn segment(n: usize, frames: usize, stride: usize, clip: usize, clips: usize) -> Vec<usize> {
    let window = frames * stride;
    let mut frame = if n < window { 0 } else { ((n - window + 1) as f64 / clips as f64 * clip as f64) as usize };
    (0..frames)
        .map(|_| {
            let this = frame;
            if frame + stride < n {
                frame += stride;
            }
            this
        })
        .collect()
}

fn rate(timeline: &Timeline, frames: usize, fps: f64, clip: usize, clips: usize) -> Result<Vec<usize>> {
    let unknown = || {
        let message =
            format!("the video has no timestamps, so frames at {fps} per second cannot be chosen; --fps gives it a rate");
        Error::invalid("sampling.fps", message)
    };
    let length = timeline.seconds().ok_or_else(unknown)?;
    let room = (length - frames as f64 / fps).max(0.0);
    let offset = if clips == 1 { room / 2.0 } else { room * clip as f64 / (clips - 1) as f64 };
    // A time that rounding puts just before the end belongs to the next loop, as `at` has it.
    let looped = |seconds: f64| if seconds + 1e-6 < length { seconds } else { (seconds + 1e-6).rem_euclid(length) };
    (0..frames).map(|i| timeline.at(looped(offset + i as f64 / fps)).ok_or_else(unknown)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_is_uniformer_v2() {
        // n = 10, T = 4: s = 9/4 = 2.25; s·i = 0, 2.25, 4.5, 6.75; halves to even: 0, 2, 4, 7.
        // One clip: ⌊2.25/2·1⌋ = 1.
        let sampling = Sampling::Sparse { frames: 4 };
        assert_eq!(sampling.clips(&Timeline::even(10, None), 1).unwrap(), [[1, 3, 5, 8]]);
        // n = 280, T = 8: s = 34.875; s·i = 0, 34.875, 69.75, 104.625, 139.5, 174.375, 209.25, 244.125
        // → 0, 35, 70, 105, 140, 174, 209, 244. Four clips: ⌊6.975·(1, 2, 3, 4)⌋ = 6, 13, 20, 27.
        let clips = Sampling::Sparse { frames: 8 }.clips(&Timeline::even(280, Some(28.0)), 4).unwrap();
        let base = [0, 35, 70, 105, 140, 174, 209, 244];
        for (clip, shift) in clips.iter().zip([6, 13, 20, 27]) {
            assert_eq!(*clip, base.map(|frame| frame + shift));
        }
        // n = 4, T = 8: s = 3/8: 0, .375, .75, 1.125, 1.5, 1.875, 2.25, 2.625 → 0 0 1 1 2 2 2 3, shift ⌊3/16⌋ = 0.
        assert_eq!(Sampling::Sparse { frames: 8 }.clips(&Timeline::even(4, None), 1).unwrap(), [[0, 0, 1, 1, 2, 2, 2, 3]]);
        // Never past the end: n = 3, T = 1: s = 2, shift of clip 3 of 4 = ⌊2/5·4⌋ = 1.
        assert_eq!(Sampling::Sparse { frames: 1 }.clips(&Timeline::even(3, None), 4).unwrap(), [[0], [0], [1], [1]]);
    }

    #[test]
    fn dense_is_vivit() {
        // n = 280, 32 × 2 = 64: room 216; offsets 0, 72, 144, 216.
        let clips = Sampling::Dense { frames: 32, stride: 2 }.clips(&Timeline::even(280, None), 4).unwrap();
        for (clip, offset) in clips.iter().zip([0, 72, 144, 216]) {
            assert_eq!(*clip, (0..32).map(|i| offset + 2 * i).collect::<Vec<_>>());
        }
        // One clip: the centre, offset (11 − 8)/2 = 1. Fractions: room 3, offsets 0, 1.5 → 1, 3.
        let sampling = Sampling::Dense { frames: 4, stride: 2 };
        assert_eq!(sampling.clips(&Timeline::even(11, None), 1).unwrap(), [[1, 3, 5, 7]]);
        assert_eq!(sampling.clips(&Timeline::even(11, None), 3).unwrap(), [[0, 2, 4, 6], [1, 3, 5, 7], [3, 5, 7, 9]]);
        // Five frames for a span of eight: 0 2 4 6 modulo 5.
        assert_eq!(sampling.clips(&Timeline::even(5, None), 1).unwrap(), [[0, 2, 4, 1]]);
    }

    #[test]
    fn segments_are_vidtr() {
        // n = 280, 8 × 8 = 64: (280 − 64 + 1)/10 = 21.7; offsets ⌊21.7·c⌋.
        let clips = Sampling::Segments { frames: 8, stride: 8 }.clips(&Timeline::even(280, None), 10).unwrap();
        let offsets: Vec<_> = clips.iter().map(|clip| clip[0]).collect();
        assert_eq!(offsets, [0, 21, 43, 65, 86, 108, 130, 151, 173, 195]);
        assert_eq!(clips[9], [195, 203, 211, 219, 227, 235, 243, 251]);
        // Too short: from 0, and the last frame in reach (16 of 20) repeats.
        let clips = Sampling::Segments { frames: 8, stride: 8 }.clips(&Timeline::even(20, None), 2).unwrap();
        assert_eq!(clips, [[0, 8, 16, 16, 16, 16, 16, 16]; 2]);
    }

    #[test]
    fn rate_is_tubevit() {
        // 30 → 15 per second: r = 2, T·r = 128; n = 300: room 172; offsets 0, 57.33, 114.67, 172.
        let clips = Sampling::Rate { frames: 64, fps: 15.0 }.clips(&Timeline::even(300, Some(30.0)), 4).unwrap();
        for (clip, offset) in clips.iter().zip([0, 57, 114, 172]) {
            assert_eq!(*clip, (0..64).map(|i| offset + 2 * i).collect::<Vec<_>>());
        }
        // 25 → 10: r = 2.5, T·r = 10, n = 12: offset 1; 1, 3.5, 6, 8.5.
        assert_eq!(Sampling::Rate { frames: 4, fps: 10.0 }.clips(&Timeline::even(12, Some(25.0)), 1).unwrap(), [[1, 3, 6, 8]]);
        // 10 → 20: each frame twice; n = 3 loops after 6.
        assert_eq!(
            Sampling::Rate { frames: 8, fps: 20.0 }.clips(&Timeline::even(3, Some(10.0)), 1).unwrap(),
            [[0, 0, 1, 1, 2, 2, 0, 0]]
        );
        let error = Sampling::Rate { frames: 8, fps: 20.0 }.clips(&Timeline::even(3, None), 1).unwrap_err();
        assert!(error.to_string().contains("no timestamps"), "{error}");
    }

    const ALL: [Sampling; 4] = [
        Sampling::Sparse { frames: 7 },
        Sampling::Dense { frames: 7, stride: 3 },
        Sampling::Segments { frames: 7, stride: 3 },
        Sampling::Rate { frames: 7, fps: 9.7 },
    ];

    #[test]
    fn every_length_gives_full_clips_in_bounds() {
        for sampling in ALL {
            for n in 1..200 {
                for clips in [1, 2, 3, 10] {
                    let indices = sampling.clips(&Timeline::even(n, Some(24000.0 / 1001.0)), clips).unwrap();
                    assert_eq!(indices.len(), clips);
                    assert!(indices.iter().all(|clip| clip.len() == 7 && clip.iter().all(|&i| i < n)), "{sampling:?} {n}");
                }
            }
            assert_eq!(sampling.clips(&Timeline::even(1, None), 2).unwrap(), [[0; 7]; 2]);
            assert!(sampling.clips(&Timeline::even(0, Some(25.0)), 1).unwrap_err().to_string().contains("no frames"));
            assert!(sampling.clips(&Timeline::even(9, Some(25.0)), 0).is_err());
            assert!(sampling.clips(&Timeline::even(usize::MAX, Some(f64::MIN_POSITIVE)), 2).is_ok());
            assert!(sampling.clips(&Timeline::even(usize::MAX, Some(f64::MAX)), 2).is_ok());
        }
    }

    #[test]
    fn configurations_are_named_and_checked() {
        let parsed: Sampling = serde_json::from_str(r#"{"kind":"dense","frames":32,"stride":2}"#).unwrap();
        assert_eq!(parsed, Sampling::Dense { frames: 32, stride: 2 });
        for sampling in ALL {
            assert_eq!(serde_json::from_str::<Sampling>(&serde_json::to_string(&sampling).unwrap()).unwrap(), sampling);
        }
        assert!(serde_json::from_str::<Sampling>(r#"{"kind":"dense","frames":32,"strid":2}"#).is_err());
        for bad in [
            Sampling::Sparse { frames: 0 },
            Sampling::Sparse { frames: usize::MAX },
            Sampling::Dense { frames: 8, stride: 0 },
            Sampling::Segments { frames: 8, stride: usize::MAX },
            Sampling::Rate { frames: 8, fps: 0.0 },
            Sampling::Rate { frames: 8, fps: f64::NAN },
        ] {
            assert!(matches!(bad.clips(&Timeline::even(100, Some(25.0)), 1), Err(Error::Invalid { .. })), "{bad:?}");
        }
    }
}
