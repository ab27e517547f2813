//! Every other container, through an installed `ffmpeg`: a process that writes RGB frames into a pipe.
//!
//! `ffprobe` reads the packets and their presentation times without decoding, which costs little and
//! also finds the key frames to seek to. Where packets do not tell which frames are displayed, and
//! where decoding shows that they were wrong, the stream is decoded once from end to end. Frames are
//! the decoder's own, none repeated or dropped to even out the frame rate, and each is matched by its
//! time.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use tubelet_engine::{Error, Result};

use super::{
    Damage, Damaged, Frame, Note, Options, Sink, Source, Timeline, VideoInfo, check_wanted, ended_early, rate_contradicts,
};

mod decode;
mod log;
mod ppm;
mod probe;
mod process;
mod table;

use decode::{Ended, Run, scan};
use probe::Probe;
use table::Table;

/// Pixels that are decoded in about the time that another start of the decoder takes. Parts of a
/// video without wanted frames are passed over by seeking where they are larger.
const SEEK_PIXELS: u64 = 40_000_000;

/// The programs that decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Decodes.
    pub ffmpeg: PathBuf,
    /// Reads the packets of a container.
    pub ffprobe: PathBuf,
}

impl Default for Programs {
    /// `ffmpeg` and `ffprobe` as the search path finds them.
    fn default() -> Self {
        Programs { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() }
    }
}

/// The first video stream of a file, decoded by `ffmpeg`.
#[derive(Debug)]
pub struct Ffmpeg {
    name: String,
    path: PathBuf,
    programs: Programs,
    options: Options,
    info: VideoInfo,
    probe: Probe,
    /// The displayed frames, once they are known.
    table: Option<Table>,
    damage: Option<Damage>,
    seek_pixels: u64,
}

impl Ffmpeg {
    /// Opens a file with the programs on the search path.
    ///
    /// # Errors
    /// [`Error::Io`] where the programs are not installed, [`Error::Format`] where the file holds no video,
    /// or is damaged and to be refused; [`Error::Invalid`] where a rate contradicts its timestamps.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        Self::open_by(path, options, &Programs::default())
    }

    /// Opens a file with given programs.
    ///
    /// # Errors
    /// As [`Ffmpeg::open`].
    pub fn open_by(path: impl AsRef<Path>, options: &Options, programs: &Programs) -> Result<Self> {
        let path = path.as_ref();
        let probe = Probe::read(path, programs)?;
        let table = Table::promised(&probe);
        let mut video = Ffmpeg {
            name: path.display().to_string(),
            path: path.to_owned(),
            programs: programs.clone(),
            options: options.clone(),
            info: VideoInfo { width: probe.width, height: probe.height },
            damage: table.as_ref().and_then(|table| table.missing(&probe)),
            table,
            probe,
            seek_pixels: SEEK_PIXELS,
        };
        if options.fps.is_some() && video.probe.is_timed() {
            return Err(rate_contradicts(&video.name));
        }
        if options.damaged == Damaged::Refuse {
            video.decode_all()?;
        }
        Ok(video)
    }

    /// Passes over parts of at least so many pixels by seeking; with 0, whatever lies between two
    /// wanted frames and a key frame.
    pub fn seek_beyond(self, pixels: u64) -> Self {
        Ffmpeg { seek_pixels: pixels, ..self }
    }

    /// Decodes the whole stream: from here on its true frames are known.
    fn decode_all(&mut self) -> Result<()> {
        let (frames, complaint) = scan(self)?;
        let rate = self.options.fps.or(self.probe.rate);
        let (table, damage) = Table::decoded(&frames, &self.probe, complaint.as_deref(), rate)?;
        self.table = Some(table);
        match damage {
            Some(damage) if self.options.damaged == Damaged::Refuse => Err(Error::format(&self.name, damage.to_string())),
            damage => {
                self.damage = damage;
                Ok(())
            }
        }
    }

    /// The number of frames; an error where `last` is not among them.
    fn holds(&mut self, last: usize) -> Result<usize> {
        let frames = self.timeline()?.len();
        if last < frames { Ok(frames) } else { Err(ended_early(&self.name, frames, last)) }
    }

    fn table(&mut self) -> Result<&Table> {
        if self.table.is_none() {
            self.decode_all()?;
        }
        self.table.as_ref().ok_or_else(|| Error::format(&self.name, "its frames are not known"))
    }

    /// Where to begin decoding for the frame with a mark when the decoder stands behind `at`, or has
    /// not begun: a key frame, or `None` to go on.
    fn seek(&self, table: &Table, at: Option<i64>, mark: i64) -> Option<i64> {
        let key = table.key(mark).filter(|&key| at.is_none_or(|at| key > at))?;
        let skipped = table.frames_between(at.unwrap_or(i64::MIN), key) as u64;
        let pixels = skipped.saturating_mul(self.info.width as u64 * self.info.height as u64);
        (skipped > 0 && pixels >= self.seek_pixels).then_some(key)
    }

    /// Decodes the frames with these marks in as many runs as seeking needs. `picture` receives the
    /// number of the mark, width and height, and RGB.
    fn run_all(&self, marks: &[i64], seek: bool, picture: &mut Marked<'_>) -> Result<Ended> {
        let table = self.table.as_ref().ok_or_else(|| Error::format(&self.name, "its frames are not known"))?;
        let mut all = Ended::default();
        while all.came < marks.len() {
            let begin = all.came;
            let from = if seek { self.seek(table, None, marks[begin]) } else { None };
            let mut end = begin + 1;
            while end < marks.len() && !(seek && self.seek(table, Some(marks[end - 1]), marks[end]).is_some()) {
                end += 1;
            }
            let run = Run { table, from, wanted: &marks[begin..end] };
            let mut at = begin;
            let ended = run.decode(self, &mut |width, height, pixels| {
                at += 1;
                picture(at - 1, (width, height), pixels)
            })?;
            all = Ended { came: begin + ended.came, deviates: all.deviates || ended.deviates, ..ended };
            if all.came < end {
                break;
            }
        }
        Ok(all)
    }

    /// Hands out the pictures of `wanted`, of which several may be one decoded frame. Of those that
    /// come, it says how many.
    fn show(&mut self, wanted: &[usize], seek: bool, sink: &mut Sink<'_>) -> Result<Ended> {
        let table = self.table()?;
        let all = wanted.iter().map(|&place| table.mark(place)).collect::<Result<Vec<i64>>>()?;
        let mut marks = all.clone();
        marks.dedup();
        let (mut came, mut size) = (0, (self.info.width, self.info.height));
        let ended = self.run_all(&marks, seek, &mut |at, found, pixels| {
            size = found;
            while all.get(came) == Some(&marks[at]) {
                sink(Frame { index: wanted[came], width: size.0, height: size.1, data: pixels })?;
                came += 1;
            }
            Ok(())
        })?;
        (self.info.width, self.info.height) = size;
        Ok(Ended { came, ..ended })
    }
}

/// What receives the pictures of [`Ffmpeg::run_all`].
type Marked<'a> = dyn FnMut(usize, (usize, usize), &[u8]) -> Result<()> + 'a;

impl Source for Ffmpeg {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self) -> &VideoInfo {
        &self.info
    }

    fn timeline(&mut self) -> Result<&Timeline> {
        Ok(&self.table()?.timeline)
    }

    fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()> {
        check_wanted(wanted)?;
        let Some(&last) = wanted.last() else { return Ok(()) };
        let frames = self.holds(last)?;
        let mut ended = self.show(wanted, true, sink)?;
        let deviates = ended.deviates && ended.came == wanted.len();
        if ended.came < wanted.len() {
            // A wanted frame did not come. Either seeking missed it, which another run from the beginning
            // mends, or it is lost, and then decoding everything tells what is there.
            self.decode_all()?;
            self.holds(last)?;
            let came = ended.came;
            ended = self.show(&wanted[came..], false, sink)?;
            ended.came += came;
        }
        if ended.came < wanted.len() {
            let reason = ended.complaint.unwrap_or_else(|| "ffmpeg does not say why".to_owned());
            return Err(Error::format(&self.name, format!("cannot decode frame {}: {reason}", wanted[ended.came])));
        }
        if deviates {
            // All wanted frames are there, but others are not: how many, and which is the first?
            self.decode_all()?;
            let found = self.holds(last)?;
            if found != frames {
                return Err(Error::format(&self.name, format!("{found} frames can be decoded, the container promises {frames}")));
            }
        }
        Ok(())
    }

    fn notes(&self) -> Vec<Note> {
        let assumed = self.options.fps.is_none() && !self.probe.is_timed();
        let text = || match self.probe.rate {
            Some(rate) => {
                format!("the video has no timestamps: {rate:.2} frames per second are assumed; --fps gives another rate")
            }
            None => "the video has no timestamps: --fps gives it a rate".to_owned(),
        };
        let assumed = assumed.then(|| Note::Assumed(text()));
        self.damage.clone().map(Note::Damaged).into_iter().chain(assumed).collect()
    }
}

/// The path as a `file:` URL of ffmpeg's, so that a leading `-` is no option and a `:` no protocol.
fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_say_how_to_install_them() {
        let programs = Programs { ffprobe: "no-such-ffprobe".into(), ..Programs::default() };
        let message = Ffmpeg::open_by("video.mp4", &Options::default(), &programs).unwrap_err().to_string();
        assert!(message.contains("no-such-ffprobe: not installed") && message.contains("apt install ffmpeg"), "{message}");
    }
}
