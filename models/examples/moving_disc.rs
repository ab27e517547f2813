//! Writes the test clip that ships with the crate: `cargo run -p tubelet-models --example moving_disc -- FILE`.

use std::{env, fs, io, process::ExitCode};

#[path = "../clips/moving_disc.rs"]
mod clip;

fn main() -> io::Result<ExitCode> {
    let Some(path) = env::args_os().nth(1) else {
        eprintln!("usage: moving_disc FILE.y4m");
        return Ok(ExitCode::FAILURE);
    };
    fs::write(path, clip::y4m())?;
    Ok(ExitCode::SUCCESS)
}
