//! Every other container, through an installed `ffmpeg`: a process that writes RGB frames into a pipe.
//!
//! Frames come as a stream of PPM images rather than bare samples: each states its size, so a rotated or resized stream
//! cannot be misread. Frames are the decoder's own, none repeated or dropped to even out the frame rate.

use std::{
    ffi::OsString,
    io::{self, BufRead, ErrorKind, Read},
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use tubelet_engine::{Error, Result};

use super::{Frame, FrameCount, Sink, Source, VideoInfo, buffer, check_wanted, ended_early, process::Process, rgb_bytes};

/// The programs that decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Decodes.
    pub ffmpeg: PathBuf,
    /// Reads what a container says of itself.
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
    program: PathBuf,
    /// The option that keeps frames as decoded, by the version of the program.
    passthrough: &'static str,
    info: VideoInfo,
}

impl Ffmpeg {
    /// Opens a file with the programs on the search path.
    ///
    /// # Errors
    /// [`Error::Io`] where the programs are not installed, [`Error::Format`] where the file holds no video.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Programs::default())
    }

    /// Opens a file with given programs.
    ///
    /// # Errors
    /// As [`Ffmpeg::open`].
    pub fn open_with(path: impl AsRef<Path>, programs: &Programs) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let version = Process::output(Command::new(&programs.ffmpeg).arg("-version"), &programs.ffmpeg)?;
        let mut probe = Command::new(&programs.ffprobe);
        probe
            .args(QUIET)
            // V: not cover art and thumbnails, which are video streams to ffmpeg.
            .args(["-select_streams", "V:0", "-of", "json", "-show_entries"])
            .arg("format=format_name,duration:stream=codec_name,width,height,avg_frame_rate,r_frame_rate,nb_frames,duration:stream_tags=rotate:stream_side_data=rotation")
            .arg("-i")
            .arg(file_url(path));
        let report = Process::output(&mut probe, &programs.ffprobe)?;
        if !report.success {
            return Err(Error::format(name, format!("ffmpeg finds no video in it: {}", report.complaint())));
        }
        let info = Probe::parse(&report.stdout).and_then(Probe::info).map_err(|message| Error::format(&name, message))?;
        Ok(Ffmpeg {
            name,
            path: path.to_owned(),
            program: programs.ffmpeg.clone(),
            passthrough: passthrough_option(&version.stdout),
            info,
        })
    }

    /// `ffmpeg … -i FILE` up to the output's options.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-nostdin").args(QUIET).arg("-i").arg(file_url(&self.path));
        command.args(["-map", "0:V:0", self.passthrough, "passthrough"]);
        command
    }

    /// The error of a stream that ended after `frames` frames, before frame `wanted`.
    fn ended(&mut self, frames: usize, wanted: usize, process: Process) -> Error {
        let report = match process.finish() {
            Ok(report) => report,
            Err(error) => return Error::Io { path: self.program.clone(), source: error },
        };
        if frames == 0 {
            return Error::format(&self.name, format!("no frame could be decoded: {}", report.complaint()));
        }
        if !report.success || !report.stderr.is_empty() {
            return Error::format(&self.name, format!("cannot decode frame {frames}: {}", report.complaint()));
        }
        // The container's promise was wrong; from here on the truth is known.
        self.info.frames = FrameCount::Exact(frames);
        ended_early(&self.name, frames, wanted)
    }
}

impl Source for Ffmpeg {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self) -> &VideoInfo {
        &self.info
    }

    fn count_frames(&mut self) -> Result<usize> {
        if let FrameCount::Exact(frames) = self.info.frames {
            return Ok(frames);
        }
        let mut command = self.command();
        command.args(["-f", "null", "-progress", "pipe:1", "-nostats", "-"]);
        let report = Process::output(&mut command, &self.program)?;
        let mut counts = report.stdout.lines().filter_map(|line| line.strip_prefix("frame=")?.trim().parse().ok());
        match counts.next_back() {
            Some(frames) if frames > 0 && report.success => {
                self.info.frames = FrameCount::Exact(frames);
                Ok(frames)
            }
            _ => Err(Error::format(&self.name, format!("no frame could be decoded: {}", report.complaint()))),
        }
    }

    fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()> {
        check_wanted(wanted)?;
        let Some(&last) = wanted.last() else { return Ok(()) };
        let mut command = self.command();
        command.args(["-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe", "pipe:1"]);
        let mut process = Process::spawn(&mut command, &self.program)?;
        let mut pixels = Vec::new();
        let mut wanted = wanted.iter().copied().peekable();
        // Leaving the loop drops the process, which ends it: nothing after the last wanted frame is decoded.
        for index in 0..=last {
            let size = read_ppm(&self.name, &mut process.stdout, &mut pixels).map_err(|error| match error {
                PpmError::Io(source) => Error::Io { path: self.path.clone(), source },
                PpmError::Other(error) => error,
            })?;
            let Some((width, height)) = size else {
                return Err(self.ended(index, wanted.next().unwrap_or(last), process));
            };
            (self.info.width, self.info.height) = (width, height);
            if wanted.next_if_eq(&index).is_some() {
                sink(Frame { index, width, height, data: &pixels })?;
            }
        }
        Ok(())
    }
}

/// No banner; errors only; and a playlist must not make the program open the network.
const QUIET: [&str; 5] = ["-hide_banner", "-v", "error", "-protocol_whitelist", "file,crypto,data"];

/// The path as a `file:` URL of ffmpeg's, so that a leading `-` is no option and a `:` no protocol.
fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// `-fps_mode` came with version 5.1 and replaces `-vsync`. Builds from git (`N-…`) are newer.
fn passthrough_option(version: &str) -> &'static str {
    let number = version.strip_prefix("ffmpeg version ").unwrap_or_default().trim_start_matches('n');
    let mut parts = number.split(['.', '-', ' ']).map_while(|part| part.parse::<u32>().ok());
    match parts.next() {
        Some(major) if (major, parts.next().unwrap_or(0)) < (5, 1) => "-vsync",
        _ => "-fps_mode",
    }
}

/// What `ffprobe -of json` says.
#[derive(Debug, Deserialize)]
struct Probe {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Format {
    format_name: String,
    duration: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stream {
    codec_name: String,
    width: usize,
    height: usize,
    avg_frame_rate: String,
    r_frame_rate: String,
    nb_frames: Option<String>,
    duration: Option<String>,
    tags: Tags,
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tags {
    rotate: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SideData {
    rotation: Option<f64>,
}

impl Probe {
    fn parse(json: &str) -> Result<Self, String> {
        serde_json::from_str(json).map_err(|error| format!("ffprobe's report cannot be read: {error}"))
    }

    fn info(self) -> Result<VideoInfo, String> {
        let format = self.format;
        let stream = match self.streams.into_iter().next() {
            Some(stream) => stream,
            None => return Err(format!("no video stream in it (format {})", format.format_name)),
        };
        // ffmpeg renders text files as terminal output.
        if stream.codec_name == "ansi" || format.format_name == "tty" {
            return Err("a text file, not a video".into());
        }
        if stream.width == 0 || stream.height == 0 {
            return Err(format!("its video stream (codec {}) has no frames", stream.codec_name));
        }
        let fps = parse_rate(&stream.avg_frame_rate).or_else(|| parse_rate(&stream.r_frame_rate));
        let seconds = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
        let frames = match stream.nb_frames.as_deref().and_then(|frames| frames.parse().ok()) {
            Some(frames) if frames > 0 => FrameCount::Exact(frames),
            _ => match (seconds(&stream.duration).or_else(|| seconds(&format.duration)), fps) {
                (Some(seconds), Some(fps)) if seconds > 0.0 => FrameCount::Estimated((seconds * fps).round() as usize),
                _ => FrameCount::Unknown,
            },
        };
        let quarter_turn = stream.rotation().is_some_and(|degrees| (degrees / 90.0).round() % 2.0 != 0.0);
        let (width, height) = if quarter_turn { (stream.height, stream.width) } else { (stream.width, stream.height) };
        Ok(VideoInfo { width, height, frames, fps })
    }
}

impl Stream {
    /// Degrees by which ffmpeg turns the frames; a tag in old versions, side data since.
    fn rotation(&self) -> Option<f64> {
        let side_data = self.side_data_list.iter().find_map(|data| data.rotation);
        side_data.or_else(|| self.tags.rotate.as_deref()?.parse().ok())
    }
}

/// `30000/1001`; `0/0` says unknown.
fn parse_rate(text: &str) -> Option<f64> {
    let (over, under) = text.split_once('/')?;
    let (over, under): (f64, f64) = (over.parse().ok()?, under.parse().ok()?);
    (over > 0.0 && under > 0.0).then_some(over / under)
}

enum PpmError {
    Io(io::Error),
    Other(Error),
}

/// Reads one PPM image, `P6\nWIDTH HEIGHT\n255\n` and the samples, into `pixels`; `None` at the end of the stream, be it
/// within an image.
fn read_ppm(name: &str, reader: &mut impl BufRead, pixels: &mut Vec<u8>) -> Result<Option<(usize, usize)>, PpmError> {
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

    #[test]
    fn versions_choose_the_option() {
        for (version, option) in [
            ("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright", "-vsync"),
            ("ffmpeg version 5.0 Copyright", "-vsync"),
            ("ffmpeg version 5.1.9-0+deb12u1 Copyright", "-fps_mode"),
            ("ffmpeg version n4.2.7 Copyright", "-vsync"),
            ("ffmpeg version n7.1 Copyright", "-fps_mode"),
            ("ffmpeg version 8.0 Copyright", "-fps_mode"),
            ("ffmpeg version N-118000-gabcdef Copyright", "-fps_mode"),
        ] {
            assert_eq!(passthrough_option(version), option, "{version}");
        }
    }

    fn info(json: &str) -> Result<VideoInfo, String> {
        Probe::parse(json)?.info()
    }

    #[test]
    fn probes_are_understood() {
        let json = r#"{"streams":[{"codec_name":"h264","width":340,"height":256,"r_frame_rate":"28/1","avg_frame_rate":"28/1",
            "duration":"10.0","nb_frames":"280"}],"format":{"format_name":"mov,mp4"}}"#;
        let expected = VideoInfo { width: 340, height: 256, frames: FrameCount::Exact(280), fps: Some(28.0) };
        assert_eq!(info(json).unwrap(), expected);
        // Matroska: only the format has a duration. Turned by side data, or by the tag of old versions.
        for turned in [r#""side_data_list":[{},{"rotation":-90}]"#, r#""tags":{"rotate":"270"}"#] {
            let json = format!(
                r#"{{"streams":[{{"codec_name":"vp9","width":64,"height":48,"avg_frame_rate":"0/0","r_frame_rate":"30000/1001",
                {turned}}}],"format":{{"format_name":"matroska,webm","duration":"1.001"}}}}"#
            );
            let info = info(&json).unwrap();
            assert_eq!((info.width, info.height, info.frames), (48, 64, FrameCount::Estimated(30)));
        }
        assert!(
            info(r#"{"streams":[],"format":{"format_name":"mp3"}}"#).unwrap_err().contains("no video stream in it (format mp3)")
        );
        assert!(info(r#"{"streams":[{"codec_name":"ansi","width":640,"height":400}]}"#).unwrap_err().contains("text file"));
        assert!(info(r#"{"streams":[{"codec_name":"h264"}]}"#).unwrap_err().contains("no frames"));
        assert!(info("nonsense").is_err());
    }

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

    #[test]
    fn missing_programs_say_how_to_install_them() {
        let programs = Programs { ffmpeg: "no-such-ffmpeg".into(), ..Programs::default() };
        let message = Ffmpeg::open_with("video.mp4", &programs).unwrap_err().to_string();
        assert!(message.contains("no-such-ffmpeg: not installed") && message.contains("apt install ffmpeg"), "{message}");
    }
}
