//! Writes the clips that ship with the crate: `cargo run -p tubelet-models --example clips -- FOLDER`.

use std::{path::Path, process::ExitCode};

#[path = "../clips/camera.rs"]
mod camera;
#[allow(dead_code, reason = "tests use the rest")]
#[path = "../clips/moving_disc.rs"]
mod moving_disc;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: clips FOLDER");
        return ExitCode::from(2);
    };
    for (name, bytes) in [("camera.y4m", camera::y4m()), ("moving_disc.y4m", moving_disc::y4m())] {
        if let Err(error) = std::fs::write(Path::new(&folder).join(name), bytes) {
            eprintln!("{name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
