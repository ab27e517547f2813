//! What is kept between runs: files in the user's cache folder. A file that is missing, damaged or cannot be written costs time and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The user's folder for such files: `TUBELET_CACHE`, or `tubelet` in the one that the system names. `None` where it names none.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("TUBELET_CACHE") {
        return Some(folder);
    }
    let home = |below: &str| variable("HOME").map(|home| home.join(below));
    let system = match () {
        () if cfg!(windows) => variable("LOCALAPPDATA"),
        () if cfg!(target_os = "macos") => home("Library/Caches"),
        () => variable("XDG_CACHE_HOME").or_else(|| home(".cache")),
    };
    system.map(|folder| folder.join("tubelet"))
}

pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// Whole or not at all: under a name of this process's own first.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&temporary, bytes));
    if written.and_then(|()| fs::rename(&temporary, path)).is_err() {
        let _ = fs::remove_file(&temporary);
    }
}

/// A name for files of an adapter and its driver.
pub(crate) fn file_name(kind: &str, info: &wgpu::AdapterInfo, extension: &str) -> String {
    let name = format!("{kind}-{:?}-{}-{}-{}", info.backend, info.name, info.driver, info.driver_info);
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    format!("{}.{extension}", name.chars().map(plain).collect::<String>())
}
