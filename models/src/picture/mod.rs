//! Pictures of what a model sees: roll-outs over the frames, and learned kernels.

mod kernels;
mod strip;

use std::{io::Cursor, path::Path};

use image::{ImageFormat, RgbImage};
use tubelet_engine::{Error, Result};

pub use kernels::{Kernels, draw as draw_kernels, of as kernels_of};
pub use strip::{Strip, draw as draw_strips};

use crate::output::write_whole;

/// Larger pictures than any viewer shows.
const MOST_PIXELS: usize = 1 << 26;

/// RGB pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[H, W, 3]`.
    pub data: Vec<u8>,
}

impl Picture {
    /// Of one colour.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more pixels than fit a picture.
    pub fn new(width: usize, height: usize, colour: [u8; 3]) -> Result<Self> {
        match width.checked_mul(height) {
            Some(pixels) if (1..=MOST_PIXELS).contains(&pixels) => Ok(Picture { width, height, data: colour.repeat(pixels) }),
            _ => Err(Error::invalid("picture", format!("{width}×{height} is not within 1 to {MOST_PIXELS} pixels"))),
        }
    }

    /// Sets a pixel; outside the picture nothing happens.
    fn set(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        if x < self.width && y < self.height {
            self.data[(y * self.width + x) * 3..][..3].copy_from_slice(&colour);
        }
    }

    /// Fills the rectangle of `size` `(w, h)` at `(x, y)` with what `colour` says of each of its pixels.
    fn fill(&mut self, (x, y): (usize, usize), (w, h): (usize, usize), colour: impl Fn(usize, usize) -> [u8; 3]) {
        for j in 0..h {
            for i in 0..w {
                self.set(x + i, y + j, colour(i, j));
            }
        }
    }

    /// Refuses a path that [`Picture::save`] could not write, before anything is computed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another ending than `.png`, and for a folder that is not there.
    pub fn check_path(path: &Path) -> Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
            return Err(Error::invalid("--out", format!("{}: pictures are written as .png", path.display())));
        }
        match folder.filter(|folder| !folder.is_dir()) {
            Some(folder) => Err(Error::invalid("--out", format!("{} is no folder", folder.display()))),
            None => Ok(()),
        }
    }

    /// The picture as PNG, under a temporary name until it is whole.
    ///
    /// # Errors
    /// [`Error::Io`], as of a full disk or a folder that is not there.
    pub fn save(&self, path: &Path) -> Result<()> {
        let side = |n: usize| u32::try_from(n).map_err(|_| Error::Overflow { what: "the side of a picture".into() });
        let picture = RgbImage::from_raw(side(self.width)?, side(self.height)?, self.data.clone())
            .ok_or_else(|| Error::shape("picture", format!("{} bytes for {}×{}", self.data.len(), self.width, self.height)))?;
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).map_err(|error| Error::invalid("PNG", error.to_string()))?;
        write_whole(path, &bytes.into_inner())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn pictures_are_bounded_and_written_whole() {
        assert!(Picture::new(0, 3, [0; 3]).is_err() && Picture::new(usize::MAX, 2, [0; 3]).is_err());
        let mut picture = Picture::new(3, 2, [9; 3]).unwrap();
        picture.fill((2, 1), (5, 5), |_, _| [1, 2, 3]);
        assert_eq!(picture.data[15..], [1, 2, 3]);
        let folder = std::env::temp_dir().join(format!("tubelet-picture-{}", std::process::id()));
        assert!(picture.save(&folder.join("a.png")).is_err(), "the folder is not there");
        assert!(Picture::check_path(&folder.join("a.png")).is_err() && Picture::check_path(Path::new("a.jpg")).is_err());
        assert!(Picture::check_path(Path::new("a.PNG")).is_ok());
        fs::create_dir_all(&folder).unwrap();
        picture.save(&folder.join("a.png")).unwrap();
        let read = image::open(folder.join("a.png")).unwrap().into_rgb8();
        assert_eq!((read.width(), read.height(), read.into_raw()), (3, 2, picture.data));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing temporary is left");
        fs::remove_dir_all(folder).unwrap();
    }
}
