//! Videos whose frames show their number, made with ffmpeg, and the numbers read back.

use std::path::{Path, PathBuf};

use tubelet_models::video::{Frames, Source};

use crate::Folder;

/// Frames of `SIDE`×`SIDE` pixels.
pub const SIDE: usize = 64;

/// A y4m stream of frames with these numbers, below 256: the left half of a frame has the grey level
/// `8 + 16·⌊n/16⌋`, the right half `8 + 16·(n mod 16)`.
pub fn y4m(numbers: impl IntoIterator<Item = usize>, rate: &str) -> Vec<u8> {
    let mut bytes = format!("YUV4MPEG2 W{SIDE} H{SIDE} F{rate} Ip A1:1 Cmono XCOLORRANGE=FULL\n").into_bytes();
    for n in numbers {
        let half = |level: usize| vec![u8::try_from(8 + 16 * level).unwrap(); SIDE / 2];
        bytes.extend_from_slice(b"FRAME\n");
        bytes.extend([half(n / 16), half(n % 16)].concat().repeat(SIDE));
    }
    bytes
}

impl Folder {
    /// A video of `count` numbered frames, with ffmpeg's arguments after the input.
    pub fn numbered(&self, name: &str, count: usize, rate: &str, args: &[&str]) -> Option<PathBuf> {
        let base = self.write("base.y4m", &y4m(0..count, rate));
        self.make(name, &[&["-i", base.to_str().unwrap(), "-pix_fmt", "yuv420p"], args].concat())
    }

    /// A file made of another one, with ffmpeg's arguments around it.
    pub fn remake(&self, name: &str, before: &[&str], from: &Path, after: &[&str]) -> Option<PathBuf> {
        self.make(name, &[before, &["-i", from.to_str().unwrap()], after].concat())
    }
}

/// The numbers that frames show.
pub fn numbers(frames: &Frames) -> Vec<usize> {
    let (width, height) = (frames.width, frames.height);
    let level = |frame: &[u8], x: usize| {
        let grey = f64::from(frame[((height / 2) * width + x) * 3 + 1]);
        ((grey - 8.0) / 16.0).round() as usize
    };
    let each = frames.data.chunks(width * height * 3);
    each.map(|frame| 16 * level(frame, width / 4) + level(frame, 3 * width / 4)).collect()
}

/// The numbers of all frames of a video.
pub fn all_numbers(video: &mut dyn Source) -> Vec<usize> {
    let frames = video.timeline().unwrap().len();
    numbers(&video.read(&(0..frames).collect::<Vec<_>>()).unwrap())
}
