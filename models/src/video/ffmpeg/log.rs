//! What `ffmpeg` and `ffprobe` write to their error stream, understood as it comes.
//!
//! The programs run with `-v repeat+level+…`: each line carries its level, and none is folded into
//! "Last message repeated". The filter `showinfo` writes a line with the presentation time of each
//! decoded frame before the frame itself is written, so that the two streams stay together.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Longer lines are cut: a file can put text of any length into a message.
const LONGEST: u64 = 4096;

/// A decoded frame as the log tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Its presentation time in ticks of the stream, if it has one.
    pub(super) pts: Option<i64>,
    /// Whether it was decoded with errors.
    pub(super) faulty: bool,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Decoded>,
    /// Whether the next frame was decoded with errors.
    faulty: bool,
    /// The first error.
    complaint: Option<String>,
    ended: bool,
}

/// The log of a running program, filled by a thread that reads its error stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<(Mutex<State>, Condvar)>);

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is complete in itself, so that a panic elsewhere leaves it whole.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads an error stream to its end.
    pub(super) fn follow(&self, stream: impl Read) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            match stream.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => self.line(&String::from_utf8_lossy(&line)),
            }
        }
        self.state().ended = true;
        self.0.1.notify_all();
    }

    fn line(&self, line: &str) {
        let Some((speaker, level, text)) = split(line.trim_end()) else { return };
        let mut state = self.state();
        match level {
            "info" if speaker.starts_with("Parsed_showinfo") => {
                let Some(pts) = pts(text) else { return };
                let faulty = std::mem::take(&mut state.faulty);
                state.frames.push_back(Decoded { pts, faulty });
                drop(state);
                self.0.1.notify_all();
            }
            "warning" if text.contains("corrupt decoded frame") => state.faulty = true,
            // The writer that throws pictures away minds how close together times are; the video is whole.
            "error" | "fatal" | "panic" if speaker != "null" => {
                state.complaint.get_or_insert_with(|| text.to_owned());
            }
            _ => {}
        }
    }

    /// The next decoded frame; `None` where the program has ended without one.
    pub(super) fn next_frame(&self) -> Option<Decoded> {
        let mut state = self.state();
        loop {
            match state.frames.pop_front() {
                Some(frame) => return Some(frame),
                None if state.ended => return None,
                None => state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The first error, as far as the log was read.
    pub(super) fn complaint(&self) -> Option<String> {
        self.state().complaint.clone()
    }
}

/// `[h264 @ 0x55d0] [error] text` or `[error] text` as speaker, level and text.
fn split(line: &str) -> Option<(&str, &str, &str)> {
    let (first, rest) = line.strip_prefix('[')?.split_once("] ")?;
    match first.split_once(" @ ") {
        None => Some(("", first, rest)),
        Some((speaker, _)) => {
            // A stream of a container speaks in the name of both: `[in @ 0x1] [mov @ 0x2] [error] text`.
            let (_, level, text) = split(rest)?;
            Some((speaker, level, text))
        }
    }
}

/// The time in a line of `showinfo`, `n:   0 pts:  512 pts_time:0.03 …`; `Some(None)` for a frame
/// without one, `None` for other lines of the filter.
fn pts(text: &str) -> Option<Option<i64>> {
    if !text.starts_with("n:") {
        return None;
    }
    let value = text.split_once(" pts:")?.1.split_ascii_whitespace().next()?;
    Some(value.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_errors_are_told_apart() {
        let log = Log::default();
        log.follow(
            "[info] Input #0, mov, from 'file:x':\n\
             [info]     title           : [error] not an error\n\
             plain text\n\
             [Parsed_showinfo_0 @ 0x5] [info] config in time_base: 1/15360, frame_rate: 30/1\n\
             [Parsed_showinfo_0 @ 0x5] [info] n:   0 pts:   -512 pts_time:-0.03 duration:1\n\
             [null @ 0x8] [error] Application provided invalid, non monotonically increasing dts\n\
             [h264 @ 0x6] [error] no frame!\n\
             [in#0 @ 0x6] [mov @ 0x7] [error] second\n\
             [warning] file:x: corrupt decoded frame in stream 0\n\
             [Parsed_showinfo_0 @ 0x5] [info] n:   1 pts:NOPTS pts_time:NOPTS duration:1\n"
                .as_bytes(),
        );
        assert_eq!(log.next_frame(), Some(Decoded { pts: Some(-512), faulty: false }));
        assert_eq!(log.next_frame(), Some(Decoded { pts: None, faulty: true }));
        assert_eq!(log.next_frame(), None);
        assert_eq!(log.complaint().as_deref(), Some("no frame!"));
    }
}
