//! Image files as videos: one image is a video of one frame, a folder of images a video in natural order.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use tubelet_engine::{Error, Result};

use super::{
    Animation, Damage, Damaged, Frame, Note, Options, Sink, Source, Timeline, VideoInfo, check_wanted, ended_early,
    rate_contradicts,
};

/// File name endings taken from a folder; what else lies there (labels, notes) is passed over.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// Opens an image file: an animation is a video, another image a video of one frame.
pub(super) fn open(path: &Path, options: &Options) -> Result<Box<dyn Source>> {
    match Animation::open(path, options)? {
        Some(animation) if options.fps.is_some() => Err(rate_contradicts(animation.name())),
        Some(animation) => Ok(Box::new(animation)),
        None => Ok(Box::new(Images::file(path, options)?)),
    }
}

/// JPEG, PNG, WebP or BMP files, upright as their EXIF orientation says. Transparency is dropped.
#[derive(Debug)]
pub struct Images {
    name: String,
    info: VideoInfo,
    timeline: Timeline,
    files: Vec<PathBuf>,
    /// Files that cannot be decoded, as far as they were tried, and what was said of the first.
    broken: BTreeSet<usize>,
    reason: String,
    refuse: bool,
}

impl Images {
    /// One image, a video of one frame.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] where it cannot be read as an image.
    pub fn file(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        Self::new(path, vec![path.to_owned()], options)
    }

    /// A folder of images, a frame each, in natural order of their names (`frame_2` before `frame_10`). Hidden files and
    /// other endings than those of images are passed over. Frames have times if the options give a rate.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] where the folder cannot be read, holds no images, or holds an animation.
    pub fn folder(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let mut files = Vec::new();
        for entry in path.read_dir().map_err(Error::io(path))? {
            let file = entry.map_err(Error::io(path))?.path();
            if is_frame(&file) && file.is_file() {
                files.push(file);
            }
        }
        if files.is_empty() {
            let message = format!("the folder holds no images (.{})", ENDINGS.join(", ."));
            return Err(Error::format(path.display().to_string(), message));
        }
        files.sort_by(|a, b| natural(&file_name(a), &file_name(b)));
        Self::new(path, files, options)
    }

    fn new(path: &Path, files: Vec<PathBuf>, options: &Options) -> Result<Self> {
        let timeline = Timeline::even(files.len(), options.fps);
        let refuse = options.damaged == Damaged::Refuse;
        let mut images = Images {
            name: path.display().to_string(),
            info: VideoInfo { width: 0, height: 0 },
            timeline,
            files,
            broken: BTreeSet::new(),
            reason: String::new(),
            refuse,
        };
        let (_, first) = images.readable(0)?;
        (images.info.width, images.info.height) = size(&first);
        if refuse {
            (1..images.files.len()).try_for_each(|index| images.readable(index).map(drop))?;
        }
        Ok(images)
    }

    /// The picture of a frame: of the file at that place, or where it is broken of the one before
    /// it that is not; before the first whole file, of that one.
    fn readable(&mut self, index: usize) -> Result<(usize, DynamicImage)> {
        for place in (0..=index).rev().chain(index + 1..self.files.len()) {
            if self.broken.contains(&place) {
                continue;
            }
            match decode(&self.files[place]) {
                Ok(image) => return Ok((place, image)),
                Err(error) if self.refuse || self.files.len() == 1 => return Err(error),
                Err(error) => {
                    if self.broken.is_empty() {
                        self.reason = error.to_string();
                    }
                    self.broken.insert(place);
                }
            }
        }
        Err(Error::format(&self.name, format!("no image in it can be read; the first: {}", self.reason)))
    }
}

impl Source for Images {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self) -> &VideoInfo {
        &self.info
    }

    fn timeline(&mut self) -> Result<&Timeline> {
        Ok(&self.timeline)
    }

    fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()> {
        check_wanted(wanted)?;
        for &index in wanted {
            if index >= self.files.len() {
                return Err(ended_early(&self.name, self.files.len(), index));
            }
            let (place, image) = self.readable(index)?;
            let (width, height) = size(&image);
            if (width, height) != (self.info.width, self.info.height) {
                let message =
                    format!("{width}×{height}, but the first image of the folder is {}×{}", self.info.width, self.info.height);
                return Err(Error::format(self.files[place].display().to_string(), message));
            }
            sink(Frame { index, width, height, data: image.into_rgb8().as_raw() })?;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<Note> {
        let Some(&frame) = self.broken.first() else { return Vec::new() };
        let (seconds, lost, reason) = (self.timeline.start(frame), self.broken.len(), self.reason.clone());
        vec![Note::Damaged(Damage { frame, seconds, lost, faulty: 0, cut_off: false, reason })]
    }
}

fn size(image: &DynamicImage) -> (usize, usize) {
    (image.width() as usize, image.height() as usize)
}

fn is_frame(file: &Path) -> bool {
    let ending = file.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    ENDINGS.contains(&ending.as_str()) && !file_name(file).starts_with('.')
}

fn file_name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The error of a file that is not read as an image.
pub(super) fn failed(file: &Path) -> impl Fn(ImageError) -> Error {
    move |error| match error {
        ImageError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::Io { path: file.to_owned(), source }
        }
        error => Error::format(file.display().to_string(), error.to_string()),
    }
}

/// Decodes within the `image` crate's default limits (512 MiB), so that a header cannot ask for all memory.
fn decode(file: &Path) -> Result<DynamicImage> {
    let failed = failed(file);
    let reader = BufReader::new(File::open(file).map_err(Error::io(file))?);
    // By content: an ending may lie.
    let reader = ImageReader::new(reader).with_guessed_format().map_err(Error::io(file))?;
    let mut decoder = reader.into_decoder().map_err(&failed)?;
    Limits::default().reserve(decoder.total_bytes()).map_err(&failed)?;
    let orientation = decoder.orientation().map_err(&failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(&failed)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Order in which runs of digits compare as numbers, whatever their length.
fn natural(a: &str, b: &str) -> Ordering {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    while let (Some(&x), Some(&y)) = (left.first(), right.first()) {
        let (n, m) = (digits(left), digits(right));
        let (order, n, m) = if n > 0 && m > 0 {
            let number = |text: &[u8]| String::from_utf8_lossy(text).trim_start_matches('0').to_owned();
            let (x, y) = (number(&left[..n]), number(&right[..m]));
            (x.len().cmp(&y.len()).then_with(|| x.cmp(&y)), n, m)
        } else {
            (x.cmp(&y), 1, 1)
        };
        if order.is_ne() {
            return order;
        }
        (left, right) = (&left[n..], &right[m..]);
    }
    // Names equal up to leading zeros still have an order, so that it does not depend on the file system.
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_number() {
        let mut names =
            ["f10.png", "f9.png", "f009.png", "f1.png", "g1.png", "f.png", "f1a2.png", "f1a10.png", "f99999999999999999999.png"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            ["f.png", "f1.png", "f1a2.png", "f1a10.png", "f009.png", "f9.png", "f10.png", "f99999999999999999999.png", "g1.png"]
        );
    }
}
