//! Runs of the decoder: from the beginning or from a key frame, to the last wanted frame.

use std::process::Command;

use tubelet_engine::{Error, Result};

use super::{
    Ffmpeg, file_url,
    log::Decoded,
    ppm::{PpmError, read_ppm},
    probe::LOCAL,
    process::Process,
    table::Table,
};

/// Runs of wanted frames up to which the decoder is told to let nothing else through. Beyond that
/// the expression that says so would become slow itself.
const RANGES: usize = 256;

/// A decoded picture: width, height, RGB.
pub(super) type Picture<'a> = dyn FnMut(usize, usize, &[u8]) -> Result<()> + 'a;

/// How a run of the decoder ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Wanted frames that came.
    pub(super) came: usize,
    /// Whether frames on the way were not those that the table promises.
    pub(super) deviates: bool,
    /// The decoder's first complaint, where a wanted frame did not come.
    pub(super) complaint: Option<String>,
}

/// One run of the decoder.
pub(super) struct Run<'a> {
    pub(super) table: &'a Table,
    /// The time of the key frame to begin with; the beginning of the file if not given.
    pub(super) from: Option<i64>,
    /// The marks of the wanted frames, strictly ascending.
    pub(super) wanted: &'a [i64],
}

impl Run<'_> {
    /// Decodes, and hands out the wanted frames in order.
    pub(super) fn decode(&self, ffmpeg: &Ffmpeg, picture: &mut Picture<'_>) -> Result<Ended> {
        let ranges = self.ranges();
        let mut command = ffmpeg.command(self.from.map(|key| key as f64 * ffmpeg.probe.tick));
        command.args(["-vf", &filter(ffmpeg, ranges.as_deref())]);
        command.args(["-c:v", "ppm", "-pix_fmt", "rgb24", "-flush_packets", "1", "-f", "image2pipe", "pipe:1"]);
        let mut process = Process::spawn(&mut command, &ffmpeg.programs.ffmpeg)?;
        let (mut pixels, mut number, mut before, mut ended) = (Vec::new(), 0, None, Ended::default());
        // Leaving the loop drops the process, which ends it: nothing after the last wanted frame is decoded.
        while let Some(&wanted) = self.wanted.get(ended.came) {
            let Some(frame) = process.log.next_frame() else { break };
            let mark = if self.table.by_number { Some(number) } else { frame.pts };
            number += 1;
            ended.deviates |= self.deviates(mark, frame, &mut before);
            let Some(mark) = mark else { continue };
            if ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.0 <= mark && mark <= range.1)) {
                let Some((width, height)) = ffmpeg.picture(&mut process, &mut pixels)? else { break };
                if mark == wanted {
                    picture(width, height, &pixels)?;
                    ended.came += 1;
                }
            }
            // Decoded frames come in the order of their times: one behind a wanted frame says that it is lost.
            if mark > wanted {
                break;
            }
        }
        if ended.came < self.wanted.len() {
            ended.complaint = process.log.complaint();
        }
        Ok(ended)
    }

    /// Whether a decoded frame is not the one that the table promises next. Before the first wanted
    /// frame a run that began in the middle may lack frames that need earlier ones.
    fn deviates(&self, mark: Option<i64>, frame: Decoded, before: &mut Option<usize>) -> bool {
        if self.table.by_number {
            return false;
        }
        let place = mark.and_then(|mark| self.table.place(mark));
        if self.from.is_some() && mark.zip(self.wanted.first()).is_none_or(|(mark, &first)| mark < first) {
            return false;
        }
        let Some(place) = place else { return true };
        let expected = before.replace(place).map_or(if self.from.is_some() { place } else { 0 }, |before| before + 1);
        frame.faulty || place != expected
    }

    /// The wanted frames as runs of neighbours, by their first and last times; `None` where all frames
    /// have to come through: ffmpeg begins to count anew where the size of the pictures changes.
    fn ranges(&self) -> Option<Vec<(i64, i64)>> {
        if self.table.by_number {
            return None;
        }
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for &mark in self.wanted {
            match ranges.last_mut() {
                Some((_, last)) if self.table.frames_between(*last, mark) == 1 => *last = mark,
                _ => ranges.push((mark, mark)),
            }
        }
        match (ranges.first(), ranges.last()) {
            (Some(&(first, _)), Some(&(_, last))) if ranges.len() > RANGES => Some(vec![(first, last)]),
            _ => Some(ranges),
        }
    }
}

/// The filter that logs every frame and lets those in the ranges through.
fn filter(ffmpeg: &Ffmpeg, ranges: Option<&[(i64, i64)]>) -> String {
    match ranges {
        None => showinfo(ffmpeg).to_owned(),
        Some(ranges) => format!("{},select='{}'", showinfo(ffmpeg), any(ranges)),
    }
}

/// An expression of ffmpeg's that is not 0 where the time of a frame lies in one of the ranges: a
/// balanced tree, because expressions may be nested a hundred deep at most, and a plain sum is nested.
fn any(ranges: &[(i64, i64)]) -> String {
    match ranges {
        [] => "0".to_owned(),
        [(first, last)] => format!("between(pts,{first},{last})"),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            format!("({}+{})", any(left), any(right))
        }
    }
}

/// The filter that logs every frame; old versions compute checksums of all pictures with it.
fn showinfo(ffmpeg: &Ffmpeg) -> &'static str {
    if ffmpeg.probe.is_at_least((4, 4)) { "showinfo=checksum=0" } else { "showinfo" }
}

/// Decodes the whole stream and throws the pictures away: every frame that comes out, and the
/// decoder's first complaint.
pub(super) fn scan(ffmpeg: &Ffmpeg) -> Result<(Vec<Decoded>, Option<String>)> {
    let mut command = ffmpeg.command(None);
    command.args(["-vf", showinfo(ffmpeg), "-f", "null", "-"]);
    let program = &ffmpeg.programs.ffmpeg;
    let mut process = Process::spawn(&mut command, program)?;
    process.finish().map_err(Error::io(program))?;
    let frames: Vec<Decoded> = std::iter::from_fn(|| process.log.next_frame()).collect();
    let complaint = process.log.complaint();
    if frames.is_empty() {
        let reason = complaint.as_deref().unwrap_or("ffmpeg does not say why");
        return Err(Error::format(&ffmpeg.name, format!("no frame could be decoded: {reason}")));
    }
    Ok((frames, complaint))
}

impl Ffmpeg {
    /// The next picture of a running decoder, and its width and height; `None` where there is no more.
    fn picture(&self, process: &mut Process, pixels: &mut Vec<u8>) -> Result<Option<(usize, usize)>> {
        read_ppm(&self.name, &mut process.stdout, pixels).map_err(|error| match error {
            PpmError::Io(source) => Error::Io { path: self.path.clone(), source },
            PpmError::Other(error) => error,
        })
    }

    /// `ffmpeg … -i FILE` up to the output's options, from the key frame at or before a time in
    /// seconds on. Times stay those of the container.
    fn command(&self, from: Option<f64>) -> Command {
        let mut command = Command::new(&self.programs.ffmpeg);
        command.args(["-nostdin", "-hide_banner", "-nostats", "-v", "repeat+level+info", "-copyts"]).args(LOCAL);
        if let Some(threads) = self.options.threads {
            command.args(["-threads", &threads.to_string()]);
        }
        if let Some(seconds) = from {
            // Rounded up to a microsecond, so that the key frame itself is not missed.
            command.args(["-seek_timestamp", "1", "-noaccurate_seek", "-ss", &format!("{:.6}", seconds + 1e-6)]);
        }
        command.arg("-i").arg(file_url(&self.path));
        let passthrough = if self.probe.is_at_least((5, 1)) { "-fps_mode" } else { "-vsync" };
        command.args(["-map", "0:V:0", passthrough, "passthrough"]);
        command
    }
}
