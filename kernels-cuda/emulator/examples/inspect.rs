//! Parses PTX files and lists their kernels: `cargo run -p tubelet-ptx-emulator --example inspect -- kernels-cuda/ptx/*.ptx`.

use std::process::ExitCode;

use tubelet_ptx_emulator::Module;

fn main() -> ExitCode {
    let mut result = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{path}: {error}");
                result = ExitCode::FAILURE;
                continue;
            }
        };
        let start = std::time::Instant::now();
        match Module::parse(&text) {
            Ok(module) => {
                println!("{path}: {} kernels, {:.0?}", module.kernels().count(), start.elapsed());
                for kernel in module.kernels() {
                    println!("    {kernel}{:?}", module.parameters(kernel).unwrap_or_default());
                }
            }
            Err(fault) => {
                eprintln!("{path}: {fault}");
                result = ExitCode::FAILURE;
            }
        }
    }
    result
}
