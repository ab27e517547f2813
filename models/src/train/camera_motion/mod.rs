//! Camera motion: a procedural data set whose labels are in the motion alone.
//!
//! Every clip is a pure function of the set's seed and the clip's number: a random texture, seen by a camera that is static, pans, zooms or rolls
//! at a random speed, with noise, a change of brightness, and objects that move on their own. Where the camera stands, how far it is zoomed and
//! how it is turned half way is random too, so that the frame in the middle does not tell the label.

mod scene;
mod texture;

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use tubelet_engine::{Error, Philox, Result};

use crate::video::{self, Frames};
pub use texture::Family;

use scene::{Camera, Scene};
use texture::Canvas;

/// The classes, by what the camera does. A camera that pans left sees the scene move to the right; one that rolls clockwise sees it turn
/// counter-clockwise.
pub const CLASSES: [&str; 9] =
    ["static", "pan left", "pan right", "pan up", "pan down", "zoom in", "zoom out", "roll clockwise", "roll counter-clockwise"];

/// The data set; see the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraMotion {
    /// Of everything random.
    pub seed: u64,
    /// What the scenes look like: training and held-out sets differ in it.
    pub family: Family,
    /// The moment half way repeated, which leaves the scenes as they are and takes the motion away: the baseline that must stay at chance.
    #[serde(default)]
    pub still: bool,
    /// Pictures to look at instead of drawn textures.
    #[serde(skip)]
    pub pictures: Pictures,
}

/// Pictures that scenes are made of; none by default.
#[derive(Clone, Default)]
pub struct Pictures(Arc<Vec<Canvas>>);

impl Pictures {
    /// Frames of a picture, a video, or of every file in a folder: of each video some, evenly spread.
    ///
    /// # Errors
    /// Of reading, and where there is nothing.
    pub fn open(path: &Path) -> Result<Self> {
        const FRAMES: usize = 8;
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(Error::io(path))?;
            files = entries.map(|e| e.map(|e| e.path())).collect::<std::result::Result<_, _>>().map_err(Error::io(path))?;
            files.retain(|file| file.is_file());
            files.sort();
        }
        let mut canvases = Vec::new();
        for file in files {
            let mut source = video::open(&file)?;
            let n = source.timeline()?.len();
            let mut wanted: Vec<usize> = (0..FRAMES).map(|i| i * n / FRAMES).collect();
            wanted.dedup();
            let frames = source.read(&wanted)?;
            for data in frames.data.chunks(frames.width * frames.height * 3) {
                canvases.push(Canvas::picture(&Frames { data: data.to_vec(), ..frames })?);
            }
        }
        if canvases.is_empty() {
            Err(Error::format(path.display().to_string(), "no pictures"))
        } else {
            Ok(Pictures(Arc::new(canvases)))
        }
    }
}

impl PartialEq for Pictures {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Pictures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pictures", self.0.len())
    }
}

impl CameraMotion {
    /// The training set of a seed.
    pub fn training(seed: u64) -> Self {
        CameraMotion { seed, family: Family::Training, still: false, pictures: Pictures::default() }
    }

    /// A set of textures that training never shows.
    pub fn held_out(seed: u64) -> Self {
        CameraMotion { seed, family: Family::HeldOut, still: false, pictures: Pictures::default() }
    }

    /// Clip `index` of `frames` frames of `size` `[H, W]` pixels, and its class. Nine clips in a row have nine classes.
    ///
    /// # Errors
    /// For a clip of no pixels.
    pub fn clip(&self, index: u64, frames: usize, [height, width]: [usize; 2]) -> Result<(Frames, usize)> {
        if frames == 0 || height == 0 || width == 0 {
            return Err(Error::invalid("camera_motion", format!("a clip of {frames} frames of {height}×{width} pixels")));
        }
        let class = (index % CLASSES.len() as u64) as usize;
        let mut rng = Philox::stream(self.seed, index);
        let canvas = match self.pictures.0.as_slice() {
            [] => Canvas::draw(&mut rng, self.family),
            pictures => pictures[rng.below(pictures.len())].clone(),
        };
        let camera = Camera::draw(&mut rng, class, frames, [height, width]);
        let scene = Scene::draw(&mut rng, canvas, frames, [height, width]);
        let frame_bytes = height * width * 3;
        let mut data = Vec::with_capacity(frames * frame_bytes);
        for t in 0..frames {
            if self.still && t > 0 {
                data.extend_from_within(..frame_bytes);
            } else {
                let time = if self.still { scene::middle(frames) } else { t as f32 };
                scene.render(&mut rng, &camera, time, &mut data);
            }
        }
        Ok((Frames { width, height, data }, class))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The shift of the scene, in pixels, that brings frame `a` closest to frame `b`.
    fn flow(frames: &Frames, a: usize, b: usize) -> (i32, i32) {
        let (w, h) = (frames.width as i32, frames.height as i32);
        let grey = |t: usize, y: i32, x: i32| {
            i32::from(frames.data[((t * frames.height + y as usize) * frames.width + x as usize) * 3 + 1])
        };
        let shifts = (-6..=6).flat_map(|dy| (-6..=6).map(move |dx| (dy, dx)));
        let cost = |&(dy, dx): &(i32, i32)| {
            let rows = 6..h - 6;
            rows.flat_map(|y| (6..w - 6).map(move |x| (y, x)))
                .map(|(y, x)| (grey(b, y + dy, x + dx) - grey(a, y, x)).abs())
                .sum::<i32>()
        };
        shifts.min_by_key(cost).unwrap()
    }

    #[test]
    fn clips_depend_on_seed_and_number_alone() {
        let set = CameraMotion::training(3);
        let (a, class) = set.clip(40, 6, [32, 40]).unwrap();
        assert_eq!((a.len(), class), (6, 4));
        assert_eq!(set.clip(40, 6, [32, 40]).unwrap().0, a);
        assert_ne!(set.clip(49, 6, [32, 40]).unwrap().0, a);
        assert_ne!(CameraMotion::training(4).clip(40, 6, [32, 40]).unwrap().0, a);
        assert_ne!(CameraMotion::held_out(3).clip(40, 6, [32, 40]).unwrap().0, a);
        assert!(set.clip(0, 0, [8, 8]).is_err());
    }

    #[test]
    fn the_scene_moves_against_the_camera() {
        let set = CameraMotion::held_out(11);
        // Distractors and noise spoil some clips; most must agree.
        for (class, wanted) in [(0, (0, 0)), (1, (0, 1)), (2, (0, -1)), (3, (1, 0)), (4, (-1, 0))] {
            let agree = (0..12).filter(|i| {
                let (frames, label) = set.clip(9 * i + class, 8, [48, 48]).unwrap();
                assert_eq!(label as u64, class);
                let (dy, dx) = flow(&frames, 2, 4);
                (dy.signum(), dx.signum()) == wanted
            });
            let agree = agree.count();
            assert!(agree >= 9, "{}: {agree} of 12", CLASSES[class as usize]);
        }
    }

    #[test]
    fn still_clips_have_one_frame() {
        let set = CameraMotion { still: true, ..CameraMotion::training(3) };
        let (frames, _) = set.clip(5, 4, [16, 16]).unwrap();
        let first = &frames.data[..16 * 16 * 3];
        assert!(frames.data.chunks(16 * 16 * 3).all(|frame| frame == first));
        let odd = |still| CameraMotion { still, ..CameraMotion::training(3) }.clip(0, 1, [16, 16]).unwrap().0;
        assert_eq!(odd(true), odd(false), "one frame is still");
    }
}
