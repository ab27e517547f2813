//! Build steps that need more than a Rust compiler; their results are committed, so that building does not.

mod instructions;
mod nvrtc;
mod ptx;
mod ptxas;
mod sass;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask ptx [--check] [OPERATION...]

  Compiles kernels-cuda/src/*.cu to kernels-cuda/ptx/*.ptx with NVRTC 12.4.127: for compute_80, and where a source says in a line of its own
  \"// Also for compute_90a.\", for that as well.
  --check writes nothing and fails where the committed PTX has other bytes.

cargo xtask ptxas [--check]

  Assembles the PTX for every chip with ptxas 12.9.86, writes what each kernel takes to kernels-cuda/ptx/resources.txt, refuses spills.

cargo xtask sass [--check]

  Disassembles what the kernels for Hopper became with nvdisasm 13.5.37, and writes how often its own instructions stand in each to
  kernels-cuda/ptx/sass.txt.

cargo xtask instructions [--check]

  Counts the instructions of kernels on fixed inputs with valgrind's callgrind and writes them to benches/results/instructions.txt.
  --check writes nothing and fails where a count is more than 5% from the committed one.

  TUBELET_NVDISASM      nvdisasm, if it is not on the path
  TUBELET_PTXAS         ptxas, if it is not on the path
  TUBELET_NVRTC         libnvrtc.so, if it is not among the system's libraries
  TUBELET_CUDA_INCLUDE  the folder of cuda_bf16.h, if it is not beside NVRTC";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((command, rest)) if command == "instructions" => instructions::run(rest),
        Some((command, rest)) if command == "ptx" => ptx::run(rest),
        Some((command, rest)) if command == "ptxas" => ptxas::run(rest),
        Some((command, rest)) if command == "sass" => sass::run(rest),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
