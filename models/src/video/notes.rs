//! What the user of a video should know although its frames were read.

use std::fmt;

/// What to do with a video of which a part cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Damaged {
    /// Use the frames that are there, at their right times, with a note.
    #[default]
    Use,
    /// Refuse the video. The whole video is decoded once before the first frame is used.
    Refuse,
}

/// The part of a video that cannot be decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// The first frame that is lost or decoded with errors, by its place in the video.
    pub frame: usize,
    /// The time of that frame in seconds, where frames have times.
    pub seconds: Option<f64>,
    /// Frames that are lost.
    pub lost: usize,
    /// Frames that were decoded with errors, and are used.
    pub faulty: usize,
    /// Whether the video ends there.
    pub cut_off: bool,
    /// What the decoder said first.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = |n: usize| if n == 1 { "1 frame".to_owned() } else { format!("{n} frames") };
        write!(f, "{} at ", if self.cut_off { "the video is cut off" } else { "the video is damaged" })?;
        match self.seconds {
            Some(seconds) => write!(f, "{seconds:.2} s (frame {})", self.frame)?,
            None => write!(f, "frame {}", self.frame)?,
        }
        match (self.lost, self.faulty) {
            (0, 0) => {}
            (lost, 0) => write!(f, ": {} lost", frames(lost))?,
            (0, faulty) => write!(f, ": {} decoded with errors", frames(faulty))?,
            (lost, faulty) => write!(f, ": {} lost, {} decoded with errors", frames(lost), frames(faulty))?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason) }
    }
}

/// Something about a video that its user should know although its frames were read.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A part cannot be decoded, and the rest is used.
    Damaged(Damage),
    /// The video is shorter than a clip of it, so that frames repeat.
    Short(String),
    /// Times were assumed, because the video has none.
    Assumed(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Damaged(damage) => write!(f, "{damage}; the remaining frames are used"),
            Note::Short(text) | Note::Assumed(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_says_where_and_how_much() {
        let damage =
            Damage { frame: 100, seconds: Some(10.0 / 3.0), lost: 3, faulty: 1, cut_off: false, reason: "no frame".into() };
        let text = "the video is damaged at 3.33 s (frame 100): 3 frames lost, 1 frame decoded with errors (no frame)";
        assert_eq!(damage.to_string(), text);
        let cut = Damage { seconds: None, lost: 0, faulty: 0, cut_off: true, reason: String::new(), ..damage };
        assert_eq!(cut.to_string(), "the video is cut off at frame 100");
        assert!(Note::Damaged(cut).to_string().ends_with("the remaining frames are used"));
    }
}
