//! How many instructions a second: `cargo run --release -p tubelet-ptx-emulator --example speed [THREADS [KERNEL]]`.

use std::time::Instant;

use tubelet_ptx_emulator::{Emulator, Fault, Launch, Module, Options};

/// So many times each kernel is launched; the fastest counts.
const REPEATS: usize = 5;

fn main() -> Result<(), Fault> {
    let threads = std::env::args().nth(1).and_then(|t| t.parse().ok()).unwrap_or(1);
    println!("{threads} host threads");
    let emulator = Emulator::new(Options { threads, ..Options::default() });
    let upload = |bytes: &[u8]| -> Result<[u8; 8], Fault> {
        let address = emulator.allocate(bytes.len())?;
        emulator.write(address, bytes)?;
        Ok(address.to_le_bytes())
    };
    let number = |n: u32| n.to_le_bytes();

    let n = 1u32 << 20;
    let (a, b, c) = (upload(&vec![0; 4 << 20])?, upload(&vec![0; 4 << 20])?, upload(&vec![0; 4 << 20])?);
    let add = Module::parse(include_str!("../tests/ptx/add.ptx"))?;
    let launch = Launch { grid: [n / 256, 1, 1], block: [256, 1, 1], dynamic_shared: 0 };
    measure(&emulator, &add, "add", launch, &[&a, &b, &c, &number(n)])?;

    let softmax = Module::parse(include_str!("../tests/ptx/softmax.ptx"))?;
    let launch = Launch { grid: [512, 1, 1], block: [256, 1, 1], dynamic_shared: 0 };
    measure(&emulator, &softmax, "softmax", launch, &[&a, &c, &number(2048)])?;

    let gemm = Module::parse(include_str!("../tests/ptx/gemm.ptx"))?;
    let size = 512;
    let launch = Launch { grid: [size / 64, size / 64, 1], block: [128, 1, 1], dynamic_shared: 3 * 2 * 64 * 40 * 2 };
    for kernel in ["gemm_f16", "gemm_bf16"] {
        measure(&emulator, &gemm, kernel, launch, &[&a, &b, &c, &number(size), &number(size), &number(size)])?;
    }
    Ok(())
}

fn measure(emulator: &Emulator, module: &Module, kernel: &str, launch: Launch, parameters: &[&[u8]]) -> Result<(), Fault> {
    if std::env::args().nth(2).is_some_and(|wanted| wanted != kernel) {
        return Ok(());
    }
    let mut best = f64::INFINITY;
    let mut counters = Default::default();
    for _ in 0..REPEATS {
        let start = Instant::now();
        counters = emulator.launch(module, kernel, launch, parameters)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    let (warp, lane) = (counters.instructions() as f64 / best / 1e6, counters.lane_instructions as f64 / best / 1e6);
    println!("{kernel}: {:.1} ms, {warp:.1} million warp instructions a second, {lane:.0} million by lanes", best * 1e3);
    println!("    {counters}");
    Ok(())
}
