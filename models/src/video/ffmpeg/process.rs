//! Programs that run beside ours and write into a pipe.

use std::{
    io::{self, BufReader, ErrorKind},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread::JoinHandle,
};

use tubelet_engine::{Error, Result};

use super::log::Log;

/// A running program. Dropping it ends it and collects it: no process outlives its reader, none becomes a zombie.
pub(super) struct Process {
    child: Child,
    pub(super) stdout: BufReader<ChildStdout>,
    /// What it says on its error stream.
    pub(super) log: Log,
    /// Reads the error stream; unread, a full pipe would stop the program.
    reader: Option<JoinHandle<()>>,
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
        let log = Log::default();
        let follower = log.clone();
        let reader = std::thread::spawn(move || follower.follow(stderr));
        Ok(Process { child, stdout: BufReader::with_capacity(1 << 16, stdout), log, reader: Some(reader) })
    }

    /// Waits for a program whose output has been read to its end; whether it succeeded. Its log is
    /// complete then.
    pub(super) fn finish(&mut self) -> io::Result<bool> {
        let success = self.child.wait()?.success();
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| io::Error::other("the reader of the program's messages failed"))?;
        }
        Ok(success)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where the program has ended and been collected already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn not_installed(program: &Path) -> Error {
    let message = "not installed, and this file needs it to be decoded (y4m streams and images do not); install ffmpeg with \
                   `apt install ffmpeg`, `dnf install ffmpeg`, `brew install ffmpeg` or `winget install ffmpeg`";
    Error::Io { path: program.to_owned(), source: io::Error::new(ErrorKind::NotFound, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
