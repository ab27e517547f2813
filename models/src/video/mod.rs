//! Clips of u8 RGB frames out of files.
//!
//! A [`Source`] hands out decoded frames in one forward pass; [`views`] samples, resizes and crops them on the way, so
//! that memory holds one source frame and the finished clips, whatever the length of the video. Frames stay u8: the
//! tube convolution normalises them when it gathers its patches.
//!
//! y4m is read natively in every build. With the feature `cli` come image files, folders of images, and every container
//! that an installed `ffmpeg` reads.

use std::{fs::File, io::Read, path::Path};

use tubelet_engine::{Error, Result};

#[cfg(feature = "cli")]
mod ffmpeg;
mod geometry;
#[cfg(feature = "cli")]
mod images;
mod pipeline;
#[cfg(feature = "cli")]
mod process;
mod sampling;
mod y4m;

#[cfg(feature = "cli")]
pub use ffmpeg::{Ffmpeg, Programs};
pub use geometry::{Geometry, Plan, Rect, resize_crop};
#[cfg(feature = "cli")]
pub use images::Images;
pub use pipeline::{Views, views};
pub use sampling::Sampling;
pub use y4m::Y4m;

/// How many frames a video has, as far as its file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameCount {
    /// The frames were counted, or the container states their number.
    Exact(usize),
    /// Duration times frame rate.
    Estimated(usize),
    /// The container tells neither number nor duration.
    Unknown,
}

/// What is known of a video before its frames are decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoInfo {
    /// Width in pixels, as displayed (after rotation).
    pub width: usize,
    /// Height in pixels, as displayed (after rotation).
    pub height: usize,
    /// Number of frames.
    pub frames: FrameCount,
    /// Average frames per second; `None` where there is no such thing, as in a folder of images.
    pub fps: Option<f64>,
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

    /// Size, length and rate, as far as known by now.
    fn info(&self) -> &VideoInfo;

    /// The number of frames, decoding the whole video once where the container does not state it.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Format`] of the decoder.
    fn count_frames(&mut self) -> Result<usize>;

    /// Decodes the video once, up to the last wanted frame, and hands the wanted frames to `sink` in order.
    /// One decoded frame is in memory at a time.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `wanted` is strictly ascending; [`Error::Format`] where the file is broken or ends
    /// before the last wanted frame (then [`Source::count_frames`] knows the true number); and what `sink` returns.
    fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()>;

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
/// [`Error::Unsupported`] for anything but y4m without the feature `cli`.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn Source>> {
    let path = path.as_ref();
    let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
    if metadata.is_dir() {
        return open_folder(path);
    }
    if !metadata.is_file() {
        return Err(Error::format(path.display().to_string(), "neither a regular file nor a folder"));
    }
    let mut magic = Vec::with_capacity(32);
    File::open(path).and_then(|file| file.take(32).read_to_end(&mut magic)).map_err(Error::io(path))?;
    match magic.as_slice() {
        [] => Err(Error::format(path.display().to_string(), "the file is empty")),
        magic if magic.starts_with(y4m::MAGIC) => Ok(Box::new(Y4m::open(path)?)),
        magic => open_other(path, magic),
    }
}

#[cfg(feature = "cli")]
fn open_folder(path: &Path) -> Result<Box<dyn Source>> {
    Ok(Box::new(Images::folder(path)?))
}

#[cfg(feature = "cli")]
fn open_other(path: &Path, magic: &[u8]) -> Result<Box<dyn Source>> {
    if images::is_image(magic) { Ok(Box::new(Images::file(path)?)) } else { Ok(Box::new(Ffmpeg::open(path)?)) }
}

#[cfg(not(feature = "cli"))]
fn open_folder(path: &Path) -> Result<Box<dyn Source>> {
    open_other(path, &[])
}

#[cfg(not(feature = "cli"))]
fn open_other(path: &Path, _magic: &[u8]) -> Result<Box<dyn Source>> {
    Err(Error::Unsupported {
        op: "video::open",
        device: "a build without the feature `cli`".into(),
        message: format!("{} is not a y4m stream; images and other containers need that feature", path.display()),
    })
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
