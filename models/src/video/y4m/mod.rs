//! YUV4MPEG2: uncompressed frames behind one text header, `W` `H` `F` (rate) `I` (interlacing) `A` `C` (chroma) `X` (comments).
//!
//! Eight bits, 4:2:0, 4:1:1, 4:2:2, 4:4:4 and monochrome. The format states no colour matrix: BT.601 is what its tools
//! write. Chroma samples are repeated, not interpolated; siting (`420jpeg`, `420mpeg2`, `420paldv`) therefore does not matter.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use tubelet_engine::{Error, Result};

use self::rgb::{Layout, to_rgb};
use super::{
    Damage, Damaged, Frame, Note, Options, Sink, Source, Timeline, VideoInfo, buffer, check_wanted, ended_early,
    rate_contradicts, rgb_bytes,
};

mod rgb;

/// The first bytes of every stream.
pub(super) const MAGIC: &[u8] = b"YUV4MPEG2";

/// Longer header lines than any writer makes; bounds what a broken file can make us read.
const MAX_LINE: u64 = 1024;

/// A YUV4MPEG2 stream. Opening it finds every frame; reading seeks to the wanted ones.
pub struct Y4m<R> {
    name: String,
    reader: R,
    info: VideoInfo,
    layout: Layout,
    timeline: Timeline,
    /// Where the samples of each frame begin.
    offsets: Vec<u64>,
    damage: Option<Damage>,
}

impl Y4m<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`Y4m::new`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::default())
    }

    /// Opens a file with options.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`Y4m::new`].
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let file = File::open(path).map_err(Error::io(path))?;
        Self::new(path.display().to_string(), BufReader::new(file), options)
    }
}

impl<R: BufRead + Seek> Y4m<R> {
    /// Reads the header and finds the frames of a stream; `name` stands in messages. What follows a
    /// frame that is cut off is left out, with a note.
    ///
    /// # Errors
    /// [`Error::Format`] for anything but complete, progressive, 8-bit frames (at least one), and where a damaged
    /// stream is to be refused; [`Error::Invalid`] for a rate beside the header's; [`Error::Overflow`] for sizes
    /// past the address space; [`Error::Io`] where reading fails.
    pub fn new(name: impl Into<String>, mut reader: R, options: &Options) -> Result<Self> {
        let name = name.into();
        let header = read_line(&mut reader).map_err(Error::io(&name))?;
        let (layout, fps) = header
            .as_deref()
            .ok_or_else(|| "the header line does not end".to_owned())
            .and_then(parse_header)
            .map_err(|message| Error::format(&name, format!("YUV4MPEG2: {message}")))?;
        rgb_bytes(&name, layout.width, layout.height)?;
        if fps.is_some() && options.fps.is_some() {
            return Err(rate_contradicts(&name));
        }
        let (offsets, broken) = find_frames(&name, &mut reader, layout.bytes() as u64)?;
        if let Some(message) = broken.as_ref().filter(|_| offsets.is_empty() || options.damaged == Damaged::Refuse) {
            return Err(Error::format(name, message.clone()));
        }
        if offsets.is_empty() {
            return Err(Error::format(name, "the stream has no frames"));
        }
        let timeline = Timeline::even(offsets.len(), fps.or(options.fps));
        let damage = broken.map(|reason| {
            let (frame, seconds) = (offsets.len(), timeline.seconds());
            Damage { frame, seconds, lost: 0, faulty: 0, cut_off: true, reason }
        });
        let info = VideoInfo { width: layout.width, height: layout.height };
        Ok(Y4m { name, reader, info, layout, timeline, offsets, damage })
    }
}

impl<R: BufRead + Seek + Send> Source for Y4m<R> {
    fn name(&self) -> &str {
        &self.name
    }

    fn info(&self) -> &VideoInfo {
        &self.info
    }

    fn timeline(&mut self) -> Result<&Timeline> {
        Ok(&self.timeline)
    }

    fn notes(&self) -> Vec<Note> {
        self.damage.clone().map(Note::Damaged).into_iter().collect()
    }

    fn visit(&mut self, wanted: &[usize], sink: &mut Sink<'_>) -> Result<()> {
        check_wanted(wanted)?;
        let Layout { width, height, .. } = self.layout;
        let mut planes = buffer(self.layout.bytes())?;
        let mut rgb = buffer(rgb_bytes(&self.name, width, height)?)?;
        for &index in wanted {
            let offset = *self.offsets.get(index).ok_or_else(|| ended_early(&self.name, self.offsets.len(), index))?;
            self.reader
                .seek(SeekFrom::Start(offset))
                .and_then(|_| self.reader.read_exact(&mut planes))
                .map_err(Error::io(&self.name))?;
            to_rgb(&self.layout, &planes, &mut rgb);
            sink(Frame { index, width, height, data: &rgb })?;
        }
        Ok(())
    }
}

/// One line without its end; `None` where it does not end within [`MAX_LINE`] bytes.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

fn parse_header(line: &[u8]) -> Result<(Layout, Option<f64>), String> {
    let line = std::str::from_utf8(line).map_err(|_| "the header is not text".to_owned())?;
    let mut words = line.split(' ');
    if words.next().map(str::as_bytes) != Some(MAGIC) {
        return Err("the stream does not begin with this word".into());
    }
    let (mut width, mut height, mut fps) = (None, None, None);
    // The format's default.
    let mut subsampling = Some((1, 1));
    let mut full_range = false;
    for word in words.filter(|word| !word.is_empty()) {
        let mut rest = word.chars();
        let tag = rest.next();
        let value = rest.as_str();
        match tag {
            Some('W') => width = Some(parse_side("width", value)?),
            Some('H') => height = Some(parse_side("height", value)?),
            Some('F') => fps = parse_rate(value)?,
            Some('C') => subsampling = parse_chroma(value)?,
            Some('I') if matches!(value, "t" | "b" | "m") => {
                return Err(format!("interlaced (I{value}); only progressive frames are read, deinterlace first"));
            }
            Some('X') => match value {
                "COLORRANGE=FULL" => full_range = true,
                "COLORRANGE=LIMITED" => full_range = false,
                _ => {}
            },
            // I (progressive or unknown), A (pixel aspect) and tags of the future do not change the samples.
            _ => {}
        }
    }
    let width = width.ok_or("no width (W) in the header")?;
    let height = height.ok_or("no height (H) in the header")?;
    Ok((Layout { width, height, subsampling, full_range }, fps))
}

fn parse_side(what: &str, value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(side) if side > 0 => Ok(side),
        _ => Err(format!("{what} `{value}` is not a positive number of pixels")),
    }
}

/// Frames per second of `30000:1001`; `0:0` says unknown.
fn parse_rate(value: &str) -> Result<Option<f64>, String> {
    let bad = || format!("frame rate `{value}` is not of the form 30000:1001");
    let (over, under) = value.split_once(':').ok_or_else(bad)?;
    let (over, under): (u32, u32) = (over.parse().map_err(|_| bad())?, under.parse().map_err(|_| bad())?);
    Ok((over > 0 && under > 0).then(|| f64::from(over) / f64::from(under)))
}

fn parse_chroma(value: &str) -> Result<Option<(u32, u32)>, String> {
    match value {
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => Ok(Some((1, 1))),
        "411" => Ok(Some((2, 0))),
        "422" => Ok(Some((1, 0))),
        "444" => Ok(Some((0, 0))),
        "mono" => Ok(None),
        _ => Err(format!("chroma format C{value} is not read; 8-bit 420, 411, 422, 444 and mono are")),
    }
}

/// The offsets of all frames up to the first that is broken, and what is wrong with that. Reads
/// their headers and seeks over the samples.
fn find_frames<R: BufRead + Seek>(name: &str, reader: &mut R, bytes: u64) -> Result<(Vec<u64>, Option<String>)> {
    let io_error = || Error::io(name);
    let mut offset = reader.stream_position().map_err(io_error())?;
    let end = reader.seek(SeekFrom::End(0)).map_err(io_error())?;
    reader.seek(SeekFrom::Start(offset)).map_err(io_error())?;
    let mut offsets = Vec::new();
    while offset < end {
        let index = offsets.len();
        match read_line(reader).map_err(io_error())? {
            Some(line) if line == b"FRAME" || line.starts_with(b"FRAME ") => offset += line.len() as u64 + 1,
            Some(_) => return Ok((offsets, Some(format!("frame {index} does not begin with the word FRAME")))),
            None => return Ok((offsets, Some(format!("the header of frame {index} is cut off")))),
        }
        // A frame that does not fit is found before a buffer for it is allocated.
        if end.saturating_sub(offset) < bytes {
            let message = format!("frame {index} is truncated: {bytes} bytes needed, {} left", end.saturating_sub(offset));
            return Ok((offsets, Some(message)));
        }
        offsets.push(offset);
        offset += bytes;
        // Relative: stays within the buffer where frames are small.
        reader.seek_relative(i64::try_from(bytes).map_err(|_| Error::Overflow { what: name.to_owned() })?).map_err(io_error())?;
    }
    Ok((offsets, None))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn open(bytes: &[u8]) -> Result<Y4m<Cursor<&[u8]>>> {
        Y4m::new("test.y4m", Cursor::new(bytes), &Options::default())
    }

    fn error(bytes: &[u8]) -> String {
        match open(bytes) {
            Ok(_) => panic!("accepted {:?}", String::from_utf8_lossy(bytes)),
            Err(error) => error.to_string(),
        }
    }

    /// A stream of `frames` with their samples.
    fn stream(header: &str, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("YUV4MPEG2 {header}\n").into_bytes();
        for (i, frame) in frames.iter().enumerate() {
            // Every second frame header has a parameter.
            bytes.extend_from_slice(if i % 2 == 0 { b"FRAME\n" } else { b"FRAME Ip\n" });
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    #[test]
    fn grey_frames_of_every_chroma_format() {
        // 3×5 pixels: 4:2:0 has 2×3 chroma samples, 4:1:1 1×5, 4:2:2 2×5.
        for (chroma, samples) in [("", 6), ("C420jpeg", 6), ("C420mpeg2", 6), ("C420paldv", 6), ("C420", 6), ("C411", 5)]
            .into_iter()
            .chain([("C422", 10), ("C444", 15), ("Cmono", 0)])
        {
            let frame = |y: u8| [vec![y; 15], vec![128; 2 * samples]].concat();
            let bytes = stream(&format!("W3 H5 F30000:1001 Ip A1:1 {chroma}"), &[frame(16), frame(235), frame(126)]);
            let mut video = open(&bytes).unwrap();
            let info = video.info();
            assert_eq!((info.width, info.height), (3, 5), "{chroma}");
            assert_eq!(*video.timeline().unwrap(), Timeline::even(3, Some(30000.0 / 1001.0)));
            let frames = video.read(&[2, 0, 1, 1]).unwrap();
            // (126 − 16)·255/219 = 128.08.
            let greys: Vec<_> = frames.data.chunks(45).map(|frame| (frame[0], frame[44])).collect();
            assert_eq!(greys, [(128, 128), (0, 0), (255, 255), (255, 255)], "{chroma}");
        }
    }

    #[test]
    fn range_is_read_from_the_header() {
        let frame = vec![235, 128, 128];
        for (header, white) in [("", 255), ("XCOLORRANGE=LIMITED", 255), ("XCOLORRANGE=FULL", 235), ("XYSCSS=444", 255)] {
            let bytes = stream(&format!("W1 H1 F25:1 C444 {header}"), std::slice::from_ref(&frame));
            assert_eq!(open(&bytes).unwrap().read(&[0]).unwrap().data, [white; 3], "{header}");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        for (header, message) in [
            ("H2 F1:1", "no width"),
            ("W2 F1:1", "no height"),
            ("W0 H2", "width `0`"),
            ("W2 H-2", "height `-2`"),
            ("W2 H2 F25", "frame rate `25`"),
            ("W2 H2 Fa:b", "frame rate"),
            ("W2 H2 C420p10", "C420p10"),
            ("W2 H2 C444alpha", "C444alpha"),
            ("W2 H2 It", "interlaced"),
            ("W2 H2 Im", "interlaced"),
            ("W99999999999999999999999 H2", "width"),
        ] {
            let message_got = error(&stream(header, &[vec![0; 6]]));
            assert!(message_got.contains(message) && message_got.contains("test.y4m"), "{header}: {message_got}");
        }
        assert!(error(b"").contains("header"));
        assert!(error(b"YUV4MPEG2 W2 H2").contains("does not end"));
        assert!(error(b"YUV4MPEG3 W2 H2\n").contains("begin"));
        assert!(error(&[b"YUV4MPEG2 \xff W2 H2\n".as_slice(), &[0; 9]].concat()).contains("not text"));
        assert!(error(&[b"YUV4MPEG2 W2 H2 X".as_slice(), &[b'a'; 4096], b"\n"].concat()).contains("does not end"));
        assert!(error(b"YUV4MPEG2 W2 H2 F25:1\n").contains("no frames"));
        assert!(!open(&stream("W2 H2 F0:0", &[vec![0; 6]])).unwrap().timeline().unwrap().is_timed());
    }

    #[test]
    fn frames_before_damage_are_used_unless_it_is_to_be_refused() {
        let refuse = Options { damaged: Damaged::Refuse, ..Options::default() };
        let whole = stream("W2 H2 F25:1", &[vec![0; 6], vec![0; 6], vec![0; 6]]);
        let mut broken = whole.clone();
        let start = broken.len() - 12;
        broken[start] = b'f';
        for (bytes, reason) in [
            (&whole[..whole.len() - 1], "frame 2 is truncated: 6 bytes needed, 5 left"),
            (&whole[..whole.len() - 7], "the header of frame 2 is cut off"),
            (&broken, "frame 2 does not begin"),
        ] {
            let mut video = open(bytes).unwrap();
            assert_eq!(*video.timeline().unwrap(), Timeline::even(2, Some(25.0)));
            let note = video.notes()[0].to_string();
            assert!(note.contains("cut off at 0.08 s (frame 2)") && note.contains(reason), "{note}");
            let message = Y4m::new("test.y4m", Cursor::new(bytes), &refuse).err().unwrap().to_string();
            assert!(message.contains(reason), "{message}");
        }
        assert!(open(&whole).unwrap().notes().is_empty());
    }

    #[test]
    fn a_rate_is_for_streams_without_one() {
        let given = Options { fps: Some(10.0), ..Options::default() };
        let mut video = Y4m::new("test.y4m", Cursor::new(stream("W2 H2 F0:0", &[vec![0; 6]])), &given).unwrap();
        assert_eq!(*video.timeline().unwrap(), Timeline::even(1, Some(10.0)));
        let message = Y4m::new("test.y4m", Cursor::new(stream("W2 H2 F25:1", &[vec![0; 6]])), &given).err().unwrap();
        assert!(message.to_string().contains("timestamps of its own"));
    }

    #[test]
    fn absurd_sizes_are_refused_without_allocating() {
        for (width, height) in [(usize::MAX, usize::MAX), (1 << 33, 1 << 33), (usize::MAX / 2, 1)] {
            let message = error(&stream(&format!("W{width} H{height} F1:1"), &[vec![0; 6]]));
            assert!(message.contains("address space"), "{message}");
        }
        // Fits the address space, not the file.
        assert!(error(&stream("W1048576 H1048576 F1:1", &[vec![0; 6]])).contains("frame 0 is truncated"));
    }

    #[test]
    fn indices_are_checked() {
        let bytes = stream("W2 H2 F25:1", &[vec![0; 6]]);
        let mut video = open(&bytes).unwrap();
        assert!(video.read(&[1]).unwrap_err().to_string().contains("frame 1 was asked for, the video has 1"));
        assert!(video.visit(&[0, 0], &mut |_| Ok(())).is_err());
    }
}
