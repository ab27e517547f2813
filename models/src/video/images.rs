//! Image files as videos: one image is a video of one frame, a folder of images a video in natural order.

use std::{
    cmp::Ordering,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use tubelet_engine::{Error, Result};

use super::{Frame, FrameCount, Sink, Source, VideoInfo, check_wanted, ended_early};

/// File name endings taken from a folder; what else lies there (labels, notes) is passed over.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

/// Whether a file that begins with `magic` (at least 12 bytes, if it has them) is read here.
pub(super) fn is_image(magic: &[u8]) -> bool {
    // Two letters alone begin many a text; the next reserved field is zero.
    let bitmap = magic.starts_with(b"BM") && magic.get(6..10) == Some(&[0; 4]);
    let webp = magic.starts_with(b"RIFF") && magic.get(8..12) == Some(b"WEBP");
    webp || magic.starts_with(b"\xff\xd8\xff") || magic.starts_with(b"\x89PNG\r\n\x1a\n") || bitmap
}

/// JPEG, PNG, WebP or BMP files, upright as their EXIF orientation says. Transparency is dropped.
#[derive(Debug)]
pub struct Images {
    name: String,
    info: VideoInfo,
    files: Vec<PathBuf>,
}

impl Images {
    /// One image, a video of one frame.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] where it cannot be read as an image.
    pub fn file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(path, vec![path.to_owned()])
    }

    /// A folder of images, a frame each, in natural order of their names (`frame_2` before `frame_10`). Hidden files and
    /// other endings than those of images are passed over.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] where the folder cannot be read or holds no images.
    pub fn folder(path: impl AsRef<Path>) -> Result<Self> {
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
        Self::new(path, files)
    }

    fn new(path: &Path, files: Vec<PathBuf>) -> Result<Self> {
        let first = files.first().map(|file| decode(file)).transpose()?;
        let (width, height) = first.map_or((0, 0), |image| size(&image));
        let info = VideoInfo { width, height, frames: FrameCount::Exact(files.len()), fps: None };
        Ok(Images { name: path.display().to_string(), info, files })
    }
}

impl Source for Images {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self) -> &VideoInfo {
        &self.info
    }

    fn count_frames(&mut self) -> Result<usize> {
        Ok(self.files.len())
    }

    fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()> {
        check_wanted(wanted)?;
        for &index in wanted {
            let file = self.files.get(index).ok_or_else(|| ended_early(&self.name, self.files.len(), index))?;
            let image = decode(file)?;
            let (width, height) = size(&image);
            if (width, height) != (self.info.width, self.info.height) {
                let message =
                    format!("{width}×{height}, but the first image of the folder is {}×{}", self.info.width, self.info.height);
                return Err(Error::format(file.display().to_string(), message));
            }
            sink(Frame { index, width, height, data: image.into_rgb8().as_raw() })?;
        }
        Ok(())
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

/// Decodes within the `image` crate's default limits (512 MiB), so that a header cannot ask for all memory.
fn decode(file: &Path) -> Result<DynamicImage> {
    let failed = |error: ImageError| match error {
        ImageError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::Io { path: file.to_owned(), source }
        }
        error => Error::format(file.display().to_string(), error.to_string()),
    };
    let reader = BufReader::new(File::open(file).map_err(Error::io(file))?);
    // By content: an ending may lie.
    let reader = ImageReader::new(reader).with_guessed_format().map_err(Error::io(file))?;
    let mut decoder = reader.into_decoder().map_err(failed)?;
    Limits::default().reserve(decoder.total_bytes()).map_err(failed)?;
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
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

    #[test]
    fn magic_words() {
        assert!(is_image(b"\x89PNG\r\n\x1a\n....") && is_image(b"\xff\xd8\xff\xe0") && is_image(b"RIFF....WEBPVP8 "));
        assert!(!is_image(b"RIFF....AVI LIST") && !is_image(b"RIFF") && !is_image(b"") && !is_image(b"GIF89a"));
    }
}
