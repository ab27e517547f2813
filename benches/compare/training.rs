//! Training steps: forward pass, loss, backward pass and AdamW on one clip; bf16 beside autocast, master weights in f32 on both sides.

use std::process::Command;

use serde_json::Value;
use tubelet_benches::dtype;

use crate::{
    Options, cell, median,
    peers::{last_json, torch_model},
};

/// Prints the table of training steps. Each round runs both sides as processes of their own.
pub fn compare(threads: &str, options: &Options) -> Result<(), String> {
    let program = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("tubelet")));
    let program = program.filter(|path| path.exists());
    let program = program.ok_or("build the program first: cargo build --release -p tubelet-models --features cli")?;
    println!(
        "| model | ours ms | ours GFLOP/s | our tensors MiB | ours MiB | PyTorch ms | PyTorch GFLOP/s | PyTorch MiB | ratio of GFLOP/s | ratio of memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let frozen = ["--freeze", "patch_embed", "--freeze", "spatial"];
    let pairs = [
        ("tubevit-b", "tubevit-b", &[][..]),
        ("vivit-b-fe", "vivit-fe-b", &[]),
        ("sfa-vivit-b-32", "vivit-sfa-b", &frozen[..]),
        ("vidtr-s", "vidtr-s", &[]),
        ("uniformerv2-b16-ssv2-16", "uniformerv2-b-sth", &[]),
    ];
    for (preset, other, freeze) in pairs.into_iter().filter(|(preset, ..)| preset.contains(&options.only)) {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..options.rounds.unwrap_or(3) {
            eprintln!("{preset}, training, round {}", round + 1);
            let mut command = Command::new(&program);
            command.args(["bench", preset, "--train", "--json", "--passes", "3", "--dtype", dtype().name()]);
            let our = last_json({
                command.args(freeze).env("TUBELET_THREADS", threads);
                command
            });
            let arguments = ["--mode", "train", "--optim", "adamw", "--reps", "3", "--threads", threads];
            let their = torch_model(&[&["--model", other, "--dtype", dtype().name()], &arguments[..]].concat());
            ratios
                .extend(our.as_ref().zip(their.as_ref()).and_then(|(our, their)| Some(our["gflops"].as_f64()? / speed(their)?)));
            ours.extend(our);
            theirs.extend(their);
        }
        let of = |all: &[Value], f: &dyn Fn(&Value) -> Option<f64>| median(all.iter().filter_map(f).collect());
        let [our_ms, our_speed] =
            [("seconds", 1e3), ("gflops", 1.0)].map(|(key, by)| of(&ours, &|v| Some(v[key].as_f64()? * by)));
        let [allocated, our_memory] = ["peak_mib", "process_mib"].map(|key| of(&ours, &|v| v[key].as_f64()));
        let [their_ms, their_memory] = ["median_ms", "peak_rss_mib"].map(|key| of(&theirs, &|v| v[key].as_f64()));
        let cells = [our_ms, our_speed, allocated, our_memory, their_ms, of(&theirs, &speed), their_memory].map(|x| cell(x, 0));
        println!("| {preset} | {} | {} | {} |", cells.join(" | "), cell(median(ratios), 2), cell(our_memory / their_memory, 2));
    }
    println!(
        "\nMemory is the process's peak of resident memory on both sides, programs and libraries included; tensors are the peak of our allocator in a step.\n"
    );
    Ok(())
}

/// GFLOP/s of the peer's step.
fn speed(step: &Value) -> Option<f64> {
    Some(step["gflop"].as_f64()? / step["median_ms"].as_f64()? * 1e3)
}
