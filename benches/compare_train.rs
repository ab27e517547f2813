//! Training steps, ours beside PyTorch's, in one run, taking turns:
//! `cargo run --release -p tubelet-benches --bin compare_train -- [THREADS [ROUNDS]] > benches/results/cpu-train-f32.md`.
//!
//! A step is forward pass, loss, backward pass and AdamW on one clip, f32. Each round runs both as processes of their own: the program `tubelet`
//! beside this one, and the peer program of `TUBELET_PEER` (default `../shared/peers/torch_peer.py`).

use std::process::{Command, Stdio};

use serde_json::Value;

/// The JSON object that a command prints.
fn measure(mut command: Command) -> Option<Value> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    serde_json::from_str(text.lines().last()?).ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let threads = std::env::args().nth(1).unwrap_or_else(|| "2".into());
    let rounds = std::env::args().nth(2).and_then(|n| n.parse().ok()).unwrap_or(3);
    let peer = std::env::var("TUBELET_PEER").unwrap_or_else(|_| "../shared/peers/torch_peer.py".into());
    let program = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("tubelet")));
    let Some(program) = program.filter(|path| path.exists()) else {
        eprintln!("compare_train: build the program first: cargo build --release -p tubelet-models --features cli");
        std::process::exit(1);
    };
    println!("## {threads} threads, {rounds} rounds\n");
    println!(
        "| model | ours ms | ours GFLOP/s | our tensors MiB | ours MiB | PyTorch ms | PyTorch GFLOP/s | PyTorch MiB | ratio of GFLOP/s | ratio of memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let frozen = ["--freeze", "patch_embed", "--freeze", "spatial"];
    for (preset, other, freeze) in [
        ("tubevit-b", "tubevit-b", &[][..]),
        ("vivit-b-fe", "vivit-fe-b", &[]),
        ("sfa-vivit-b-32", "vivit-sfa-b", &frozen[..]),
        ("vidtr-s", "vidtr-s", &[]),
        ("uniformerv2-b16-ssv2-16", "uniformerv2-b-sth", &[]),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut command = Command::new(&program);
            command.args(["bench", preset, "--train", "--json", "--passes", "3"]).args(freeze).env("TUBELET_THREADS", &threads);
            ours.extend(measure(command));
            let mut command = Command::new("python3");
            command.arg(&peer).args(["--model", other, "--dtype", "f32", "--mode", "train", "--optim", "adamw", "--reps", "3"]);
            command.args(["--threads", &threads]);
            theirs.extend(measure(command));
        }
        let of = |all: &[Value], f: &dyn Fn(&Value) -> Option<f64>| median(all.iter().filter_map(f).collect());
        let our_ms = of(&ours, &|v| Some(v["seconds"].as_f64()? * 1e3));
        let our_speed = of(&ours, &|v| v["gflops"].as_f64());
        let allocated = of(&ours, &|v| v["peak_mib"].as_f64());
        let our_memory = of(&ours, &|v| v["process_mib"].as_f64());
        let their_ms = of(&theirs, &|v| v["median_ms"].as_f64());
        let their_speed = of(&theirs, &|v| Some(v["gflop"].as_f64()? / (v["median_ms"].as_f64()? / 1e3)));
        let their_memory = of(&theirs, &|v| v["peak_rss_mib"].as_f64());
        println!(
            "| {preset} | {our_ms:.0} | {our_speed:.0} | {allocated:.0} | {our_memory:.0} | {their_ms:.0} | {their_speed:.0} | {their_memory:.0} | {:.2} | {:.2} |",
            our_speed / their_speed,
            our_memory / their_memory,
        );
    }
    println!(
        "\nMemory is the process's peak of resident memory on both sides, programs and libraries included; tensors are the peak of our allocator in a step."
    );
}
