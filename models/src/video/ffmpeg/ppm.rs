//! The stream of PPM images that `ffmpeg` writes: each states its size, so that a stream that is
//! rotated or changes its size cannot be misread.

use std::io::{self, BufRead, ErrorKind, Read};

use tubelet_engine::{Error, Result};

use crate::video::{buffer, rgb_bytes};

pub(super) enum PpmError {
    Io(io::Error),
    Other(Error),
}

/// Reads one PPM image, `P6\nWIDTH HEIGHT\n255\n` and the samples, into `pixels`; `None` at the end of the stream, be it
/// within an image.
pub(super) fn read_ppm(name: &str, reader: &mut impl BufRead, pixels: &mut Vec<u8>) -> Result<Option<(usize, usize)>, PpmError> {
    let mut header = Vec::new();
    for _ in 0..3 {
        reader.by_ref().take(64).read_until(b'\n', &mut header).map_err(PpmError::Io)?;
    }
    if header.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&header);
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let size = match words[..] {
        ["P6", width, height, "255"] => width.parse().ok().zip(height.parse().ok()),
        _ => None,
    };
    let (width, height) = size.ok_or_else(|| {
        PpmError::Other(Error::format(name, format!("ffmpeg sent `{}` where a PPM image should begin", text.escape_debug())))
    })?;
    let bytes = rgb_bytes(name, width, height).map_err(PpmError::Other)?;
    if pixels.len() != bytes {
        *pixels = buffer(bytes).map_err(PpmError::Other)?;
    }
    match reader.read_exact(pixels) {
        Ok(()) => Ok(Some((width, height))),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(PpmError::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm(mut bytes: &[u8]) -> Result<Vec<(usize, usize)>, String> {
        let (mut sizes, mut pixels) = (Vec::new(), Vec::new());
        loop {
            match read_ppm("pipe", &mut bytes, &mut pixels) {
                Ok(Some(size)) => sizes.push(size),
                Ok(None) => return Ok(sizes),
                Err(PpmError::Io(error)) => return Err(error.to_string()),
                Err(PpmError::Other(error)) => return Err(error.to_string()),
            }
        }
    }

    #[test]
    fn ppm_streams_are_read() {
        // Samples may look like white space or a header.
        assert_eq!(ppm(b"P6\n2 1\n255\n\n P6\n\nP6\n1 1\n255\n\n\n\n").unwrap(), [(2, 1), (1, 1)]);
        assert_eq!(ppm(b"").unwrap(), []);
        assert_eq!(ppm(b"P6\n2 1\n255\nabc").unwrap(), []);
        assert!(ppm(b"P6\n2 1\n65535\nabc").unwrap_err().contains("PPM"));
        assert!(ppm(b"P5\n2 1\n255\nabcdef").unwrap_err().contains("PPM"));
        assert!(ppm(format!("P6\n{0} {0}\n255\n", u64::MAX / 4).as_bytes()).unwrap_err().contains("address space"));
    }
}
