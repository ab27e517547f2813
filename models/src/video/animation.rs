//! Animated PNG and WebP files as videos.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use image::{
    AnimationDecoder, Frames, ImageDecoder, ImageFormat, ImageReader, Limits, codecs::png::PngDecoder, codecs::webp::WebPDecoder,
};
use tubelet_engine::{Error, Result};

use super::{
    Damage, Damaged, Frame, Note, Options, Sink, Source, Timeline, VideoInfo, buffer, check_wanted, ended_early, images::failed,
    rgb_bytes,
};

/// Seconds of a tick: delays are fractions of a second with any denominator.
const TICK: f64 = 1e-6;
/// A delay of 0 is shown for 100 ms, as browsers do.
const UNSAID: f64 = 1e5;

/// The frames of an animated PNG or WebP file as they are shown, one after another, once.
/// Transparency is dropped.
#[derive(Debug)]
pub struct Animation {
    name: String,
    path: PathBuf,
    format: ImageFormat,
    info: VideoInfo,
    timeline: Timeline,
    damage: Option<Damage>,
}

impl Animation {
    /// Opens a file and decodes it once to learn its times; `None` where it is not an animation.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] where it cannot be read, and a damaged file that is to be refused.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Option<Self>> {
        let path = path.as_ref();
        let reader = ImageReader::open(path).map_err(Error::io(path))?;
        let format = reader.with_guessed_format().map_err(Error::io(path))?.format();
        let Some(format) = format.filter(|format| matches!(format, ImageFormat::Png | ImageFormat::WebP)) else {
            return Ok(None);
        };
        let Some((width, height, frames)) = frames(path, format)? else { return Ok(None) };
        let (mut starts, mut end, mut broken) = (Vec::new(), 0.0, None);
        for frame in frames {
            match frame.map_err(failed(path)) {
                Ok(frame) => {
                    starts.push(end as i64);
                    let (over, under) = frame.delay().numer_denom_ms();
                    let delay = f64::from(over) * 1e3 / f64::from(under.max(1));
                    end += if delay >= 1.0 { delay } else { UNSAID };
                }
                Err(error) if starts.is_empty() || options.damaged == Damaged::Refuse => return Err(error),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        let name = path.display().to_string();
        let timeline = Timeline::new(&starts, end as i64, TICK).map_err(|_| Error::format(&name, "its delays are too long"))?;
        let damage = broken.map(|error| {
            let (frame, seconds) = (timeline.len(), timeline.seconds());
            Damage { frame, seconds, lost: 0, faulty: 0, cut_off: true, reason: error.to_string() }
        });
        let info = VideoInfo { width, height };
        Ok(Some(Animation { name, path: path.to_owned(), format, info, timeline, damage }))
    }
}

/// Width, height and frames of an animation; `None` for a still image.
fn frames(path: &Path, format: ImageFormat) -> Result<Option<(usize, usize, Frames<'static>)>> {
    let failed = failed(path);
    let reader = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let size = |decoder: &dyn ImageDecoder| (decoder.dimensions().0 as usize, decoder.dimensions().1 as usize);
    if format == ImageFormat::Png {
        let decoder = PngDecoder::with_limits(reader, Limits::default()).map_err(&failed)?;
        if !decoder.is_apng().map_err(&failed)? {
            return Ok(None);
        }
        let (width, height) = size(&decoder);
        return Ok(Some((width, height, decoder.apng().map_err(&failed)?.into_frames())));
    }
    let mut decoder = WebPDecoder::new(reader).map_err(&failed)?;
    decoder.set_limits(Limits::default()).map_err(&failed)?;
    let (width, height) = size(&decoder);
    Ok(if decoder.has_animation() { Some((width, height, decoder.into_frames())) } else { None })
}

impl Source for Animation {
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
        let Some(&last) = wanted.last() else { return Ok(()) };
        if last >= self.timeline.len() {
            return Err(ended_early(&self.name, self.timeline.len(), last));
        }
        let VideoInfo { width, height } = self.info;
        let mut rgb = buffer(rgb_bytes(&self.name, width, height)?)?;
        let (_, _, frames) = frames(&self.path, self.format)?.ok_or_else(|| Error::format(&self.name, "the file has changed"))?;
        let mut wanted = wanted.iter().copied().peekable();
        for (index, frame) in frames.take(last + 1).enumerate() {
            let frame = frame.map_err(failed(&self.path))?;
            if wanted.next_if_eq(&index).is_some() {
                let pixels = rgb.chunks_exact_mut(3).zip(frame.buffer().as_raw().chunks_exact(4));
                pixels.for_each(|(rgb, rgba)| rgb.copy_from_slice(&rgba[..3]));
                sink(Frame { index, width, height, data: &rgb })?;
            }
        }
        match wanted.next() {
            Some(index) => Err(Error::format(&self.name, format!("the file has changed: frame {index} is no longer there"))),
            None => Ok(()),
        }
    }

    fn notes(&self) -> Vec<Note> {
        self.damage.clone().map(Note::Damaged).into_iter().collect()
    }
}
