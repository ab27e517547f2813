//! Clips of u8 RGB frames out of files.
//!
//! A [`Source`] knows when each frame of a video is on display ([`Timeline`]) and hands out decoded
//! frames in order; [`views`] samples, resizes and crops them on the way, so that memory holds one
//! source frame and the finished clips, whatever the length of the video. Frames stay u8: the
//! tube convolution normalises them when it gathers its patches.
//!
//! y4m is read natively, and every container that an installed `ffmpeg` reads through that program.
//! With the feature `cli` come image files, animations and folders of images.

use std::{fs::File, io::Read, path::Path};

use tubelet_engine::{Error, Result};

#[cfg(feature = "cli")]
mod animation;
mod ffmpeg;
mod format;
mod geometry;
#[cfg(feature = "cli")]
mod images;
mod limit;
mod notes;
mod pipeline;
mod sampling;
mod timeline;
mod y4m;

#[cfg(feature = "cli")]
pub use animation::Animation;
pub use ffmpeg::{Ffmpeg, Programs};
pub use geometry::{Geometry, Plan, Rect, resize_crop};
#[cfg(feature = "cli")]
pub use images::Images;
pub use limit::{Limit, Place};
pub use notes::{Damage, Damaged, Note};
pub use pipeline::{Choose, PlanFrame, Viewed, Views, read_clips, read_notes, views};
pub use sampling::Sampling;
pub use timeline::Timeline;
pub use y4m::Y4m;

/// What is known of a video before its frames are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoInfo {
    /// Width in pixels, as displayed (after rotation).
    pub width: usize,
    /// Height in pixels, as displayed (after rotation).
    pub height: usize,
}

/// How a video is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Frames per second of a source without timestamps, such as a folder of images.
    pub fps: Option<f64>,
    /// What to do where a part cannot be decoded.
    pub damaged: Damaged,
    /// Threads of the decoder; all processors if not given. A decoder takes memory for each.
    pub threads: Option<usize>,
}

/// One decoded frame, lent by a [`Source`].
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Position in the video, from 0.
    pub index: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// RGB, `[H, W, 3]`.
    pub data: &'a [u8],
}

/// Frames of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frames {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// RGB, `[T, H, W, 3]`.
    pub data: Vec<u8>,
}

impl Frames {
    /// Number of frames, T.
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.width * self.height * 3).unwrap_or(0)
    }

    /// Whether there are no frames.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// What receives the frames of [`Source::visit`].
pub type Sink<'a> = dyn FnMut(Frame<'_>) -> Result<()> + 'a;

/// A video whose frames can be decoded in order.
pub trait Source: Send {
    /// The name of the file, for messages.
    fn name(&self) -> &str;

    /// Its size, as far as known by now.
    fn info(&self) -> &VideoInfo;

    /// The displayed frames and their times. A displayed frame is one decoded frame inside the edit
    /// list, counted once. Where the container does not tell their times, the video is decoded once.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] of the decoder.
    fn timeline(&mut self) -> Result<&Timeline>;

    /// Decodes the video up to the last wanted frame, and hands the wanted frames to `sink` in order.
    /// One decoded frame is in memory at a time. Parts without wanted frames are passed over where
    /// that is faster. A frame that is lost has the picture of the one before it.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `wanted` is strictly ascending; [`Error::Format`] where the file is broken or ends
    /// before the last wanted frame (then [`Source::timeline`] knows the true frames); and what `sink` returns.
    fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()>;

    /// What the user should know of the video, as far as it was decoded.
    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }

    /// The frames at `indices`, in that order and with its repetitions, at their own size. One pass.
    ///
    /// # Errors
    /// As [`Source::visit`]; [`Error::Format`] where frames differ in size.
    fn read(&mut self, indices: &[usize]) -> Result<Frames> {
        pipeline::read(self, indices)
    }
}

/// Opens a video, choosing the reader by content: a y4m stream, an image, a folder of images, else whatever `ffmpeg` knows.
///
/// # Errors
/// [`Error::Io`] where the file cannot be read, [`Error::Format`] where it is empty or holds no video, and
/// [`Error::Unsupported`] for images without the feature `cli`.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn Source>> {
    open_with(path, &Options::default())
}

/// Opens a video as [`open`] does, with options.
///
/// # Errors
/// As [`open`]; and [`Error::Invalid`] for a rate that is not positive or that contradicts the
/// timestamps of the video.
pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Box<dyn Source>> {
    let path = path.as_ref();
    if let Some(fps) = options.fps.filter(|fps| !(fps.is_finite() && *fps > 0.0)) {
        return Err(Error::invalid("fps", format!("{fps} is not a positive number of frames per second")));
    }
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if metadata.is_dir() {
        return open_folder(path, options);
    }
    if !metadata.is_file() {
        return Err(Error::format(path.display().to_string(), "neither a regular file nor a folder"));
    }
    let mut magic = Vec::with_capacity(32);
    File::open(path).and_then(|file| file.take(32).read_to_end(&mut magic)).map_err(Error::io(path))?;
    match magic.as_slice() {
        [] => Err(Error::format(path.display().to_string(), "the file is empty")),
        magic if magic.starts_with(y4m::MAGIC) => Ok(Box::new(Y4m::open_with(path, options)?)),
        magic => open_other(path, magic, options),
    }
}

#[cfg(feature = "cli")]
fn open_folder(path: &Path, options: &Options) -> Result<Box<dyn Source>> {
    Ok(Box::new(Images::folder(path, options)?))
}

#[cfg(not(feature = "cli"))]
fn open_folder(path: &Path, _options: &Options) -> Result<Box<dyn Source>> {
    Err(no_images(path))
}

fn open_other(path: &Path, magic: &[u8], options: &Options) -> Result<Box<dyn Source>> {
    match format::Image::of(magic) {
        Some(format::Image::Unsupported(name)) => {
            let message = format!("{name} is not read; convert it to PNG, JPEG or WebP, or to a video");
            Err(Error::format(path.display().to_string(), message))
        }
        Some(format::Image::Known) => open_image(path, options),
        None => Ok(Box::new(Ffmpeg::open(path, options)?)),
    }
}

#[cfg(feature = "cli")]
fn open_image(path: &Path, options: &Options) -> Result<Box<dyn Source>> {
    images::open(path, options)
}

#[cfg(not(feature = "cli"))]
fn open_image(path: &Path, _options: &Options) -> Result<Box<dyn Source>> {
    Err(no_images(path))
}

#[cfg(not(feature = "cli"))]
fn no_images(path: &Path) -> Error {
    Error::Unsupported {
        op: "video::open",
        device: "a build without the feature `cli`".into(),
        message: format!("{} is an image or a folder; images need that feature", path.display()),
    }
}

/// The error of a rate that is given to a video with timestamps.
fn rate_contradicts(name: &str) -> Error {
    Error::invalid("fps", format!("{name} has timestamps of its own; a rate is for sources without, such as a folder of images"))
}

/// Checks what [`Source::visit`] demands of its indices.
fn check_wanted(wanted: &[usize]) -> Result<()> {
    if wanted.windows(2).all(|pair| pair[0] < pair[1]) {
        Ok(())
    } else {
        Err(Error::invalid("frame indices", "must be strictly ascending"))
    }
}

/// The error of a video that ends before a wanted frame.
fn ended_early(name: &str, frames: usize, wanted: usize) -> Error {
    Error::format(name, format!("frame {wanted} was asked for, the video has {frames} frames"))
}

/// The bytes of an RGB frame, unless the product overflows.
fn rgb_bytes(what: &str, width: usize, height: usize) -> Result<usize> {
    // Slices are limited to isize::MAX bytes.
    width
        .checked_mul(height)
        .and_then(|pixels| pixels.checked_mul(3))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or_else(|| Error::Overflow { what: format!("{what}: a frame of {width}×{height} pixels") })
}

/// A zeroed buffer, or an error where the system has no memory for it.
fn buffer(bytes: usize) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    data.try_reserve_exact(bytes).map_err(|_| Error::OutOfMemory {
        device: "host memory for frames".into(),
        requested: bytes,
        live: 0,
        limit: None,
    })?;
    data.resize(bytes, 0);
    Ok(data)
}
