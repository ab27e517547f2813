//! What `ffprobe` tells of a file without decoding it: the stream, and the packets with their times.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    process::Command,
};

use tubelet_engine::{Error, Result};

use super::{Programs, file_url, process::Process, table::Packet};

/// No network, whatever a playlist names.
pub(super) const LOCAL: [&str; 2] = ["-protocol_whitelist", "file,crypto,data"];

/// What of a file is read. Counts, rates and durations in headers are claims that are often wrong:
/// `nb_frames` is printed, and `r_frame_rate` serves a stream without timestamps alone.
const ENTRIES: &str = "packet=pts,dts,pos,size,flags:stream=codec_name,width,height,time_base,r_frame_rate,nb_frames,field_order\
                       :stream_tags=rotate:stream_side_data=rotation:format=format_name";

/// A video stream and its packets, in the order of the file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Probe {
    pub(super) version: String,
    pub(super) format: String,
    pub(super) codec: String,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Seconds of a tick.
    pub(super) tick: f64,
    /// A guess at the frame rate.
    pub(super) rate: Option<f64>,
    /// Frames that the header promises: for messages about a file that ends early, alone.
    pub(super) promised: Option<usize>,
    /// Where the last packet ends in the file.
    pub(super) end: u64,
    /// The size of the file.
    pub(super) size: u64,
    pub(super) interlaced: bool,
    pub(super) rotation: Option<f64>,
    pub(super) packets: Vec<Packet>,
    /// The first thing that is wrong with the container.
    pub(super) complaint: Option<String>,
}

impl Probe {
    /// Reads all packets of the first video stream of a file.
    pub(super) fn read(path: &Path, programs: &Programs) -> Result<Self> {
        let name = path.display().to_string();
        let mut command = Command::new(&programs.ffprobe);
        // V: not cover art and thumbnails, which are video streams to ffmpeg.
        command.args(["-hide_banner", "-v", "repeat+level+error"]).args(LOCAL).args(["-select_streams", "V:0"]);
        command.args(["-show_program_version", "-of", "compact", "-show_entries", ENTRIES, "-i"]).arg(file_url(path));
        let mut process = Process::spawn(&mut command, &programs.ffprobe)?;
        let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
        let mut probe = Probe { size, ..Probe::default() };
        let mut line = Vec::new();
        while process.stdout.read_until(b'\n', &mut line).map_err(Error::io(PathBuf::from(&programs.ffprobe)))? > 0 {
            probe.line(&String::from_utf8_lossy(&line));
            line.clear();
        }
        let success = process.finish().map_err(Error::io(PathBuf::from(&programs.ffprobe)))?;
        probe.complaint = process.log.complaint();
        if !success && probe.packets.is_empty() {
            let reason = probe.complaint.as_deref().unwrap_or("it does not say why");
            return Err(Error::format(name, format!("ffmpeg finds no video in it: {reason}")));
        }
        probe.check().map_err(|message| Error::format(name, message))?;
        Ok(probe)
    }

    /// Takes a line of the report, `packet|pts=0|flags=K_`.
    fn line(&mut self, line: &str) {
        let mut fields = line.trim_end().split('|');
        let section = fields.next().unwrap_or_default();
        let (mut packet, mut end) = (Packet::default(), 0u64);
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match (section, key) {
                ("packet", "pts") => packet.pts = value.parse().ok(),
                ("packet", "dts") => packet.timed = value != "N/A",
                ("packet", "pos" | "size") => end = end.saturating_add(value.parse().unwrap_or(0)),
                ("packet", "flags") => (packet.key, packet.hidden) = (value.contains('K'), value.contains('D')),
                ("program_version", "version") => self.version = value.to_owned(),
                ("format", "format_name") => self.format = value.to_owned(),
                ("stream", "codec_name") => self.codec = value.to_owned(),
                ("stream", "width") => self.width = value.parse().unwrap_or(0),
                ("stream", "height") => self.height = value.parse().unwrap_or(0),
                ("stream", "time_base") => self.tick = fraction(value).unwrap_or(0.0),
                ("stream", "r_frame_rate") => self.rate = fraction(value),
                ("stream", "nb_frames") => self.promised = value.parse().ok(),
                ("stream", "field_order") => self.interlaced = !matches!(value, "progressive" | "unknown"),
                // A tag in old versions, side data since.
                ("stream", key) if key.ends_with("rotation") || key == "tag:rotate" => {
                    self.rotation = value.parse().ok().or(self.rotation);
                }
                _ => {}
            }
        }
        if section == "packet" {
            packet.timed |= packet.pts.is_some();
            self.packets.push(packet);
            self.end = self.end.max(end);
        }
    }

    fn check(&mut self) -> Result<(), String> {
        if self.codec.is_empty() {
            return Err(format!("no video stream in it (format {})", self.format));
        }
        // ffmpeg renders text files as terminal output.
        if self.codec == "ansi" || self.format == "tty" {
            return Err("a text file, not a video".into());
        }
        if self.width == 0 || self.height == 0 || self.tick <= 0.0 {
            return Err(format!("its video stream (codec {}) has no frames", self.codec));
        }
        if self.rotation.is_some_and(|degrees| (degrees / 90.0).round() % 2.0 != 0.0) {
            (self.width, self.height) = (self.height, self.width);
        }
        Ok(())
    }

    /// Whether any packet has a time.
    pub(super) fn is_timed(&self) -> bool {
        self.packets.iter().any(|packet| packet.timed)
    }

    /// How many packets are missing at the end: the header promises more, and the last one ends with
    /// the file, or the container says that it is broken. Without that the header is wrong, and
    /// nothing is missing.
    pub(super) fn missing(&self) -> usize {
        let ends_early = self.complaint.is_some() || self.end >= self.size;
        self.promised.filter(|_| ends_early).map_or(0, |promised| promised.saturating_sub(self.packets.len()))
    }

    /// Whether each packet that is not hidden becomes one frame, as far as container and codec go.
    ///
    /// The codecs here hold one shown frame in a packet. In AVI, in Ogg and in streams without a
    /// container, packets may hold none or several, and in VP8 hidden frames have packets of their own.
    pub(super) fn is_a_frame_a_packet(&self) -> bool {
        const CODECS: [&str; 9] = ["h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg", "png", "ffv1", "prores"];
        const FORMATS: [&str; 4] = ["mov", "matroska", "mpegts", "flv"];
        let container = FORMATS.contains(&self.format.split(',').next().unwrap_or_default());
        container && CODECS.contains(&self.codec.as_str()) && !self.interlaced
    }

    /// Whether the program is at least of this version. Builds from git (`N-…`) are newer than any.
    pub(super) fn is_at_least(&self, version: (u32, u32)) -> bool {
        let mut parts = self.version.trim_start_matches('n').split(['.', '-', ' ']).map_while(|part| part.parse::<u32>().ok());
        parts.next().is_none_or(|major| (major, parts.next().unwrap_or(0)) >= version)
    }
}

/// `30000/1001`; `0/0` says unknown.
fn fraction(text: &str) -> Option<f64> {
    let (over, under) = text.split_once('/')?;
    let (over, under): (f64, f64) = (over.parse().ok()?, under.parse().ok()?);
    (over > 0.0 && under > 0.0).then_some(over / under)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(text: &str) -> Result<Probe, String> {
        let mut probe = Probe::default();
        text.lines().for_each(|line| probe.line(line));
        probe.check()?;
        Ok(probe)
    }

    #[test]
    fn versions_are_compared() {
        for (version, new) in [
            ("4.4.2-0ubuntu0.22.04.1", false),
            ("5.0", false),
            ("5.1.9-0+deb12u1", true),
            ("n4.2.7", false),
            ("n7.1", true),
            ("8.0", true),
            ("N-118000-gabcdef", true),
        ] {
            let probe = Probe { version: version.into(), ..Probe::default() };
            assert_eq!(probe.is_at_least((5, 1)), new, "{version}");
        }
    }

    #[test]
    fn reports_are_understood() {
        let report = "program_version|version=5.1.9\npacket|pts=-512|flags=KD\npacket|pts=0|flags=__\npacket|pts=N/A|flags=K_\n\
                      stream|codec_name=h264|width=64|height=48|field_order=progressive|r_frame_rate=30/1|time_base=1/15360\
                      |nb_frames=240|side_data|side_data_type=Display Matrix|rotation=-90\nformat|format_name=mov,mp4,m4a\n";
        let found = probe(report).unwrap();
        assert_eq!((found.width, found.height, found.tick, found.promised), (48, 64, 1.0 / 15360.0, Some(240)));
        assert_eq!((Probe { size: 9, ..probe(report).unwrap() }).missing(), 0, "the header is wrong");
        assert_eq!(probe(&report.replace("pts=0|", "pts=0|size=5|pos=7|")).unwrap().missing(), 237);
        let packet = |pts: Option<i64>, key, hidden| Packet { pts, timed: pts.is_some(), key, hidden };
        assert_eq!(found.packets, [packet(Some(-512), true, true), packet(Some(0), false, false), packet(None, true, false)]);
        assert!(found.is_a_frame_a_packet());
        assert!(!probe(&report.replace("progressive", "tt")).unwrap().is_a_frame_a_packet());
        assert!(!probe(&report.replace("mov,mp4", "avi")).unwrap().is_a_frame_a_packet());
        assert!(!probe(&report.replace("h264", "vp8")).unwrap().is_a_frame_a_packet());
        let turned = probe("stream|codec_name=vp9|width=64|height=48|time_base=1/1000|tag:rotate=270").unwrap();
        assert_eq!((turned.width, turned.height), (48, 64));
    }

    #[test]
    fn what_holds_no_video_is_told() {
        assert!(probe("format|format_name=mp3").unwrap_err().contains("no video stream in it (format mp3)"));
        assert!(probe("stream|codec_name=ansi|width=640|height=400").unwrap_err().contains("text file"));
        assert!(probe("stream|codec_name=h264|time_base=1/90000").unwrap_err().contains("no frames"));
    }
}
