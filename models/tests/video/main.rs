//! Getting frames out of files: the clip that ships with the crate, and, with the feature `cli`, images and containers.

// clippy.toml allows this in test functions; their helpers are tests too.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

#[path = "../../clips/camera.rs"]
mod camera;
#[path = "../../clips/moving_disc.rs"]
mod clip;
#[cfg(feature = "cli")]
mod damage;
#[cfg(feature = "cli")]
mod ffmpeg;
#[cfg(feature = "cli")]
mod images;
#[cfg(feature = "cli")]
mod numbered;
#[cfg(feature = "cli")]
mod seeking;
mod shipped;
#[cfg(feature = "cli")]
mod times;

#[cfg(feature = "cli")]
use ffmpeg::ffmpeg_is_installed;

/// The clip that ships with the crate.
const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clips/moving_disc.y4m");

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tubelet-video-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.0.join(name), bytes).unwrap();
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The message of a file that must not open.
fn error(path: &Path) -> String {
    match tubelet_models::video::open(path) {
        Ok(_) => panic!("opened {}", path.display()),
        Err(error) => error.to_string(),
    }
}
