//! The program `tubelet`: classify videos, inspect models, verify kernels.

/// Prints a line to standard output; see [`out`].
macro_rules! say {
    ($($part:tt)*) => { $crate::out(format_args!($($part)*)) };
}

mod bench;
mod check;
mod classify;
mod devices;
mod evaluate;
mod inspect;
mod kernels;
mod parity;
mod rollout;
mod source;
mod sweep;
mod table;
mod train;
mod verify;

use std::{
    fmt,
    io::{self, Write},
    process::{self, ExitCode},
};

use clap::{Parser, Subcommand};

/// Video transformers on hand-written kernels: TubeViT, ViViT, VidTr, UniFormerV2.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  tubelet classify clip.mp4 --model uniformerv2-b16-k400 --weights k400.pyth --labels kinetics400.txt
  tubelet inspect tubevit-b                 what a model costs, without running it
  tubelet inspect --tables                  the papers' tables beside ours
  tubelet verify --device cpu               every kernel against the f64 reference
  tubelet train camera-motion --out run     train the model in the box again
  tubelet check lists/train.csv             find clips that cannot be read, before training
  tubelet rollout clip.mp4 -o strip.png     what the model in the box looks at

Every command exits with 0 when it did what it was asked, 1 when it could not, 2 for wrong arguments.";

#[derive(Subcommand)]
enum Command {
    Classify(classify::Arguments),
    Inspect(inspect::Arguments),
    Devices(devices::Arguments),
    Verify(verify::Arguments),
    Parity(parity::Arguments),
    Bench(bench::Arguments),
    Train(train::Arguments),
    Evaluate(evaluate::Arguments),
    Check(check::Arguments),
    Rollout(rollout::Arguments),
    Kernels(kernels::Arguments),
}

/// Prints a line. Whoever closes the pipe, as `head` does, has seen enough: the program ends. Any other failure, as of a full disk, is an error.
fn out(line: fmt::Arguments<'_>) {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            eprintln!("tubelet: standard output: {error}");
            process::exit(1);
        }
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Classify(arguments) => classify::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Parity(arguments) => parity::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Rollout(arguments) => rollout::run(&arguments),
        Command::Kernels(arguments) => kernels::run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tubelet: {error}");
            ExitCode::FAILURE
        }
    }
}
