//! Random access to the bytes of one checkpoint file.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tubelet_engine::{Error, Result};

/// What a checkpoint can be read from.
trait Stream: Read + Seek + Send {}
impl<T: Read + Seek + Send> Stream for T {}

/// A file, or anything that seeks. Positioned reads take turns through a lock, so that a checkpoint can be shared.
pub(super) struct Source {
    path: PathBuf,
    len: u64,
    stream: Mutex<Box<dyn Stream>>,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Source::new(path, File::open(path).map_err(Error::io(path))?)
    }

    /// `path` names the stream in errors.
    pub(super) fn new(path: &Path, mut stream: impl Read + Seek + Send + 'static) -> Result<Self> {
        let len = stream.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        Ok(Source { path: path.to_owned(), len, stream: Mutex::new(Box::new(stream)) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// An error about the content of this file, which should be `format`.
    pub(super) fn error(&self, format: &str, message: impl Into<String>) -> Error {
        Error::format(format!("{} ({format})", self.path.display()), message)
    }

    /// Fills `out` from byte `offset` on.
    pub(super) fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if self.len.checked_sub(offset).is_none_or(|rest| rest < out.len() as u64) {
            let message = format!("truncated: bytes {offset}+{} lie past the end at {}", out.len(), self.len);
            return Err(self.error("checkpoint", message));
        }
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.seek(SeekFrom::Start(offset)).and_then(|_| stream.read_exact(out)).map_err(Error::io(&self.path))
    }

    /// `len` bytes from byte `offset` on. Nothing is allocated for bytes that the file does not have.
    pub(super) fn read_vec(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.len.checked_sub(offset).is_none_or(|rest| rest < len as u64) {
            let message = format!("truncated: bytes {offset}+{len} lie past the end at {}", self.len);
            return Err(self.error("checkpoint", message));
        }
        zeroed(&mut out, len)?;
        self.read_exact_at(offset, &mut out)?;
        Ok(out)
    }
}

/// Makes `out` `len` zero bytes, or says that the memory is not there (a sparse file can be larger than memory).
pub(super) fn zeroed(out: &mut Vec<u8>, len: usize) -> Result<()> {
    out.clear();
    out.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { device: "host".into(), requested: len, live: 0, limit: None })?;
    out.resize(len, 0);
    Ok(())
}

impl rawzip::ReaderAt for Source {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.seek(SeekFrom::Start(offset))?;
        stream.read(buf)
    }
}
