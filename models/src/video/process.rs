//! Programs that run beside ours and write into a pipe.

use std::{
    io::{self, BufReader, ErrorKind, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread::JoinHandle,
};

use tubelet_engine::{Error, Result};

/// A running program. Dropping it ends it and collects it: no process outlives its reader, none becomes a zombie.
pub(super) struct Process {
    child: Child,
    pub(super) stdout: BufReader<ChildStdout>,
    /// Collects the end of the error stream; unread, a full pipe would stop the program.
    stderr: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

/// What a program that ended left behind.
pub(super) struct Report {
    pub(super) success: bool,
    /// What [`Process::output`] read; empty where the reader took it.
    pub(super) stdout: String,
    /// The end of the error stream.
    pub(super) stderr: String,
}

impl Report {
    /// The last line of the error stream, without the address of the object that speaks, `[h264 @ 0x55d0] `.
    pub(super) fn complaint(&self) -> &str {
        let line = self.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("ffmpeg says nothing of why");
        match line.split_once("] ") {
            Some((speaker, rest)) if speaker.starts_with('[') => rest,
            _ => line,
        }
    }
}

impl Process {
    pub(super) fn spawn(command: &mut Command, program: &Path) -> Result<Self> {
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|source| match source.kind() {
            ErrorKind::NotFound => not_installed(program),
            _ => Error::Io { path: program.to_owned(), source },
        })?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::Io { path: program.to_owned(), source: io::Error::other("no pipe to the program") });
        };
        let stderr = std::thread::spawn(move || tail(stderr));
        Ok(Process { child, stdout: BufReader::with_capacity(1 << 16, stdout), stderr: Some(stderr) })
    }

    /// Runs a program whose output is short.
    pub(super) fn output(command: &mut Command, program: &Path) -> Result<Report> {
        let mut process = Process::spawn(command, program)?;
        let mut stdout = Vec::new();
        process.stdout.read_to_end(&mut stdout).map_err(Error::io(program))?;
        let report = process.finish().map_err(Error::io(program))?;
        Ok(Report { stdout: String::from_utf8_lossy(&stdout).into_owned(), ..report })
    }

    /// Waits for a program whose output has been read to its end.
    pub(super) fn finish(mut self) -> io::Result<Report> {
        let success = self.child.wait()?.success();
        let stderr = match self.stderr.take().map(JoinHandle::join) {
            Some(Ok(stderr)) => stderr?,
            _ => Vec::new(),
        };
        Ok(Report { success, stdout: String::new(), stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where the program has ended and been collected already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(stderr) = self.stderr.take() {
            let _ = stderr.join();
        }
    }
}

fn not_installed(program: &Path) -> Error {
    let message = "not installed, and this file needs it to be decoded (y4m streams and images do not); install ffmpeg with \
                   `apt install ffmpeg`, `dnf install ffmpeg`, `brew install ffmpeg` or `winget install ffmpeg`";
    Error::Io { path: program.to_owned(), source: io::Error::new(ErrorKind::NotFound, message) }
}

/// The last few kilobytes of a stream.
fn tail(mut reader: impl Read) -> io::Result<Vec<u8>> {
    const KEPT: usize = 4096;
    let (mut kept, mut chunk) = (Vec::new(), [0; KEPT]);
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => return Ok(kept),
            Ok(read) => {
                kept.extend_from_slice(&chunk[..read]);
                kept.drain(..kept.len().saturating_sub(KEPT));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_error_streams_keep_their_end() {
        let text = (0..5000).map(|i| format!("line {i}\n")).collect::<String>();
        let kept = tail(text.as_bytes()).unwrap();
        assert!(kept.len() == 4096 && kept.ends_with(b"line 4999\n"));
        let report = Report { success: false, stdout: String::new(), stderr: String::from_utf8(kept).unwrap() };
        assert_eq!(report.complaint(), "line 4999");
        let stderr = "[mov @ 0x55] first\n[mov,mp4 @ 0x5643ef186980] partial [file] x\n \n".to_owned();
        assert_eq!(Report { stderr, ..report }.complaint(), "partial [file] x");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn dropping_a_process_ends_and_collects_it() {
        let process = Process::spawn(Command::new("sleep").arg("1000"), Path::new("sleep")).unwrap();
        let entry = format!("/proc/{}", process.child.id());
        assert!(Path::new(&entry).exists());
        drop(process);
        // A zombie would still have its entry.
        assert!(!Path::new(&entry).exists());
    }
}
