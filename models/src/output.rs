//! Files that appear whole or not at all.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
};

use tubelet_engine::{Error, Result};

use crate::checkpoint::safetensors::temporary_beside;

/// Writes `bytes` to `path`. They are written under a temporary name in the same folder, which replaces `path` in the end:
/// if writing fails, an earlier file of that name is as it was, and nothing else is left.
///
/// # Errors
/// [`Error::Io`], as of a full disk, a folder that is not there, or a path that is one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let (temporary, mut file) = loop {
        let temporary = temporary_beside(path)?;
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => break (temporary, file),
            // A process of the same number, which crashed or runs on another machine, took that name. The next one differs.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    };
    let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The error that led here matters more than one about the leftover.
        let _ = fs::remove_file(&temporary);
        Error::io(path)(error)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;

    fn listing(folder: &Path) -> Vec<PathBuf> {
        let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    }

    #[test]
    fn files_are_replaced_whole_and_neighbours_stay() {
        let folder = std::env::temp_dir().join(format!("tubelet-output-{}", std::process::id()));
        fs::create_dir_all(folder.join("taken.json")).unwrap();
        let (path, neighbour) = (folder.join("config.json"), folder.join("config.tmp"));
        fs::write(&path, "old").unwrap();
        fs::write(&neighbour, "somebody else's").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&neighbour).unwrap()), (b"new".to_vec(), b"somebody else's".to_vec()));
        // A folder is in the way: what fails leaves nothing.
        let error = write_whole(&folder.join("taken.json"), b"new").unwrap_err().to_string();
        assert!(error.contains("taken.json"), "{error}");
        assert!(write_whole(&folder.join("missing/config.json"), b"new").is_err());
        assert_eq!(listing(&folder), [path, neighbour, folder.join("taken.json")]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
