//! Ours beside peers, in one run, taking turns:
//! `cargo run --release -p tubelet-benches --bin compare -- [--part kernels|models|training] [--only TEXT] [--threads 1,2] [--dtype f32,bf16] [--rounds N]`.
//!
//! Prints the sections of `benches/results/cpu.md`, for each number of threads and each element type one of each part; progress goes to
//! standard error. Each kernel is timed in rounds of a few runs, ours and the peers' in turn, and so are whole models and training steps, a
//! process for each of the peer's measurements; ratios are the medians of the rounds' ratios. `--only` keeps the rows whose names contain it.
//!
//! On the CPU the peers are PyTorch, by the Python of `TUBELET_PYTHON` (default `python3`) and for whole models by the program of `TUBELET_PEER`
//! (default `../shared/peers/torch_peer.py`), and candle (`benches/peer/candle`); on a WebGPU device (`TUBELET_DEVICE=wgpu`) burn's backend for
//! them (`benches/peer/burn`). Both are built on first use; where one cannot be, its columns stay empty.
//! Training runs the program `tubelet` beside this one: `cargo build --release -p tubelet-models --features cli` makes it.

mod cases;
mod kernels;
mod models;
mod peers;
mod training;

use std::{
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use tubelet_benches::{Roofline, device, dtype, provenance};
use tubelet_engine::Device;
use tubelet_wgsl::Wgpu;

/// What the arguments ask for, in this process.
#[derive(Default)]
struct Options {
    /// One of [`PARTS`]; all where it is none.
    part: Option<String>,
    only: String,
    rounds: Option<usize>,
    threads: Vec<String>,
    dtypes: Vec<String>,
}

const PARTS: [&str; 3] = ["kernels", "models", "training"];

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options::default();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
            let list = || value.split(',').map(str::to_owned).collect();
            match name.as_str() {
                "--part" if PARTS.contains(&value.as_str()) => options.part = Some(value),
                "--only" => options.only = value,
                "--rounds" => options.rounds = Some(value.parse().map_err(|error| format!("--rounds {value}: {error}"))?),
                "--threads" => options.threads = list(),
                "--dtype" => options.dtypes = list(),
                _ => return Err(format!("{name} {value}: see the head of benches/compare/main.rs")),
            }
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.part.as_deref().is_none_or(|wanted| wanted == part)
    }
}

/// Whether the roofline of this machine's processor is the device's.
fn on_processor(d: &Device) -> bool {
    d.name() == "cpu" || d.backend().description().contains("(Cpu,")
}

/// The threads of either side spin for a while after their work; the other side must not pay for that.
fn settle() {
    thread::sleep(Duration::from_millis(60));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A cell: a dash where nothing was measured.
fn cell(value: f64, digits: usize) -> String {
    if value.is_nan() { "–".into() } else { format!("{value:.digits$}") }
}

/// Runs this program again for each number of threads and each element type: they are settled once for a process.
fn each(options: &Options) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let or = |list: &[String], name: &str, otherwise: &str| match list {
        [] => vec![std::env::var(name).unwrap_or_else(|_| otherwise.into())],
        list => list.to_vec(),
    };
    let (threads, dtypes) = (or(&options.threads, "TUBELET_THREADS", "2"), or(&options.dtypes, "TUBELET_DTYPE", "f32"));
    for (threads, dtype) in threads.iter().flat_map(|n| dtypes.iter().map(move |dtype| (n, dtype))) {
        let mut command = Command::new(&program);
        command.env("TUBELET_THREADS", threads).env("TUBELET_DTYPE", dtype).args(["--only", &options.only]);
        options.part.iter().for_each(|part| _ = command.args(["--part", part]));
        options.rounds.iter().for_each(|rounds| _ = command.args(["--rounds", &rounds.to_string()]));
        match command.status() {
            Ok(status) if status.success() => {}
            other => return Err(format!("{threads} threads, {dtype}: {other:?}")),
        }
    }
    Ok(())
}

/// The parts in this process.
fn here(options: &Options) -> Result<(), String> {
    let threads = std::env::var("TUBELET_THREADS").unwrap_or_else(|_| "2".into());
    let d = device();
    let roofline = on_processor(&d).then(Roofline::measure);
    let heading = |part: &str| {
        println!("## {part}, {}, {threads} threads\n", dtype());
        print!("{}. Device: {}.", provenance(), d.backend().description());
        if let Some(roofline) = &roofline {
            print!(" Measured in this run: {}.", roofline.said());
        }
        println!("\n");
    };
    if options.wants("kernels") {
        heading("Kernels");
        kernels::compare(&d, &threads, roofline.as_ref(), options);
    }
    match (d.backend().as_any().downcast_ref::<Wgpu>(), &roofline) {
        (Some(wgpu), _) if options.wants("models") => models::launches(&d, wgpu),
        (None, Some(roofline)) => {
            if options.wants("models") {
                heading("Whole models");
                models::compare(&d, &threads, roofline, options);
            }
            if options.wants("training") {
                heading("Training steps");
                training::compare(&threads, options)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn main() -> ExitCode {
    let done = Options::parse(std::env::args().skip(1)).and_then(|options| match (&options.threads[..], &options.dtypes[..]) {
        ([], []) => here(&options),
        _ => each(&options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("compare: {message}");
            ExitCode::FAILURE
        }
    }
}
