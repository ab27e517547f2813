//! What it costs to find the times of a video, and to read frames from its middle:
//! `cargo run --release -p tubelet-benches --bin video [-- FILE]`.
//!
//! Without a file, a clip of 60 s of 1920×1080 pixels at 30 frames per second is made with ffmpeg
//! (h264, three B-frames, a key frame every 250 frames at most). The times are compared with one full
//! decode of the clip by ffmpeg on all processors; reads that seek with what ffmpeg itself takes to seek
//! to the same frame and decode as many (every seek decodes from the key frame before it). All are
//! measured in turns, and the least of each counts.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use tubelet_benches::provenance;
use tubelet_models::{
    Error, Result,
    video::{Ffmpeg, Options, Source},
};

/// Turns of all measurements.
const TURNS: usize = 5;
/// Frames of a read, and their distance.
const FRAMES: usize = 16;
const STRIDE: usize = 2;

fn main() -> ExitCode {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let made = std::env::temp_dir().join(format!("tubelet-video-{}.mp4", std::process::id()));
    let measured = match &given {
        Some(path) => measure(path),
        None => make(&made).and_then(|()| measure(&made)),
    };
    let _ = std::fs::remove_file(made);
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("video: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ffmpeg(arguments: &[&str], path: &Path, after: &[&str]) -> Result<()> {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]).args(arguments).arg(path).args(after);
    let status = command.status().map_err(Error::io("ffmpeg"))?;
    if status.success() { Ok(()) } else { Err(Error::format(path.display().to_string(), "ffmpeg failed")) }
}

fn make(path: &Path) -> Result<()> {
    eprintln!("making a clip of 60 s …");
    let source = "testsrc2=size=1920x1080:rate=30:duration=60";
    ffmpeg(&["-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "veryfast"], path, &[])
}

fn seconds<T>(work: impl FnOnce() -> Result<T>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

fn measure(path: &Path) -> Result<()> {
    println!("{}\n", provenance());
    let mut video = Ffmpeg::open(path, &Options::default())?;
    let frames = video.timeline()?.len();
    let room = frames.saturating_sub(FRAMES * STRIDE);
    let places: Vec<usize> = (0..=4).map(|quarter| room * quarter / 4).collect();
    let (mut decode, mut times) = (f64::INFINITY, f64::INFINITY);
    let mut reads = vec![[f64::INFINITY; 2]; places.len()];
    for _ in 0..TURNS {
        decode = decode.min(seconds(|| ffmpeg(&["-i"], path, &["-f", "null", "-"]))?);
        times = times.min(seconds(|| Ffmpeg::open(path, &Options::default())?.timeline().map(|_| ()))?);
        for (&place, least) in places.iter().zip(&mut reads) {
            let wanted: Vec<usize> = (0..FRAMES).map(|i| place + i * STRIDE).collect();
            let at = video.timeline()?.start(place).unwrap_or(0.0).to_string();
            let span = (FRAMES * STRIDE).to_string();
            let after = ["-frames:v", &span, "-pix_fmt", "rgb24", "-f", "null", "-"];
            least[0] = least[0].min(seconds(|| ffmpeg(&["-ss", &at, "-i"], path, &after))?);
            least[1] = least[1].min(seconds(|| video.read(&wanted))?);
        }
    }
    println!("| {frames} frames, {}×{} | s |\n|---|---|", video.info().width, video.info().height);
    println!("| one full decode by ffmpeg | {decode:.3} |");
    println!("| finding the times | {times:.3} ({:.1}% of a full decode) |", 100.0 * times / decode);
    for (place, [floor, read]) in places.iter().zip(&reads) {
        let more = read - floor;
        println!("| reading {FRAMES} frames from frame {place} on | {read:.3} (ffmpeg itself {floor:.3}: {more:+.3}) |");
    }
    Ok(())
}
