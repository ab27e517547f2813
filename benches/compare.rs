//! Ours beside a peer, in one run, taking turns: `cargo run --release -p tubelet-benches --bin compare > benches/results/cpu-f32.md`.
//!
//! On the CPU the peer is PyTorch, on a WebGPU device (`TUBELET_DEVICE=wgpu`) burn's backend for them (`benches/peer/burn`, built on first use;
//! where it cannot be, there is no peer). Each kernel is timed in rounds of a few runs, ours and the peer's in turn; the ratio is the median
//! of the rounds' ratios. On the CPU whole models alternate with the peer program of `TUBELET_PEER` (default `../shared/peers/torch_peer.py`),
//! a process for each of its measurements; on WebGPU devices they are listed with their launches. An argument keeps the kernels whose names contain it;
//! `TUBELET_DTYPE=bf16` measures both sides in bf16.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tubelet_benches::{Case, Roofline, best, device, dtype, normal, weight};
use tubelet_engine::{
    DType, Device, Function, Operand, Tensor,
    ops::{
        attention::Attention, attention_backward::AttentionBackward, conv3d::Conv3d, conv3d_depthwise::Conv3dDepthwise,
        gemm::Gemm, layer_norm::LayerNorm, softmax::Softmax, unary::Unary,
    },
};
use tubelet_models::{Pass, registry::Config};
use tubelet_wgsl::Wgpu;

/// Rounds, and the runs of each: a software device is a hundred times slower.
fn effort(d: &Device) -> (usize, usize) {
    if d.name().starts_with("wgpu") && on_processor(d) { (3, 1) } else { (7, 5) }
}

/// Whether the roofline of this machine's processor is the device's.
fn on_processor(d: &Device) -> bool {
    d.name() == "cpu" || d.backend().description().contains("(Cpu,")
}

/// The peer's process, and its name.
struct Peer {
    name: &'static str,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(device: &Device, threads: &str) -> Option<Peer> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer");
        if device.name().starts_with("wgpu") {
            let mut command = Command::new("cargo");
            command.args(["run", "--release", "--quiet", "--manifest-path"]).arg(folder.join("burn/Cargo.toml"));
            return Peer::spawn("burn", command);
        }
        let check = Command::new("python3").args(["-c", "import torch"]).stderr(Stdio::null()).status();
        check.ok().filter(|status| status.success())?;
        let mut command = Command::new("python3");
        command.arg(folder.join("torch_kernels.py")).arg(threads);
        Peer::spawn("PyTorch", command)
    }

    fn spawn(name: &'static str, mut command: Command) -> Option<Peer> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let (requests, answers) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        Some(Peer { name, child, requests, answers })
    }

    /// Seconds of a case.
    fn time(&mut self, case: &Value) -> Option<f64> {
        writeln!(self.requests, "{case}").ok()?;
        let mut line = String::new();
        self.answers.read_line(&mut line).ok()?;
        line.trim().parse().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The threads of either side spin for a while after their work; the other side must not pay for that.
fn settle() {
    thread::sleep(Duration::from_millis(60));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn cases(d: &Device) -> Vec<(Case, Value)> {
    let mut all = Vec::new();
    for (m, n, k) in
        [(197, 768, 768), (540, 768, 768), (1576, 2304, 768), (1576, 3072, 768), (1576, 768, 3072), (540, 4096, 1024)]
    {
        let inputs = [normal(d, &[m, k]), weight(d, &[n, k], Operand::GemmWeight), normal(d, &[n])];
        all.push((
            Case::new(&format!("gemm {m}×{n}×{k}"), Gemm::default(), inputs),
            json!({ "kind": "gemm", "shape": [m, n, k] }),
        ));
    }
    for (label, q, axis, keys, torch) in [
        ("attention joint 1569", [1, 1, 1569, 12, 64], 2, 1569, [1, 12, 1569, 64]),
        ("attention joint 540", [1, 1, 540, 12, 64], 2, 540, [1, 12, 540, 64]),
        ("attention spatial 8×197", [1, 8, 197, 12, 64], 2, 197, [8, 12, 197, 64]),
        ("attention temporal 197×9", [1, 9, 197, 12, 64], 1, 9, [197, 12, 9, 64]),
        ("attention one query, 1576 keys", [1, 1, 1, 12, 64], 2, 1576, [1, 12, 1, 64]),
    ] {
        let mut k = q;
        k[axis] = keys;
        let inputs = [normal(d, &q), normal(d, &k), normal(d, &k)];
        let case = Case::new(label, Attention { scale: 0.125, axis, lse: false }, inputs);
        all.push((case, json!({ "kind": "attention", "shape": torch, "keys": keys })));
        // Any result and log-sum-exp will do: the work is the same.
        let lse = Tensor::zeros(d, DType::F32, &q[..4]).unwrap_or_else(|error| panic!("{error}"));
        let inputs = [normal(d, &q), normal(d, &k), normal(d, &k), normal(d, &q), lse, normal(d, &q)];
        let case = Case::new(&label.replacen(' ', " backward ", 1), AttentionBackward { scale: 0.125, axis }, inputs);
        all.push((case, json!({ "kind": "attention_backward", "shape": torch, "keys": keys })));
    }
    for (kernel, stride) in
        [([8, 8, 8], [16, 32, 32]), ([16, 4, 4], [6, 32, 32]), ([4, 12, 12], [16, 32, 32]), ([2, 16, 16], [2, 16, 16])]
    {
        let shape = [768, kernel[0], kernel[1], kernel[2], 3];
        let inputs = [normal(d, &[1, 32, 224, 224, 3]), weight(d, &shape, Operand::Conv3dWeight)];
        let case = Case::new(&format!("conv3d {kernel:?} by {stride:?}"), Conv3d::new(stride), inputs);
        all.push((case, json!({ "kind": "conv3d", "shape": kernel, "stride": stride })));
    }
    for (kernel, padding) in [([3, 3, 3], [1, 1, 1]), ([3, 1, 1], [1, 0, 0])] {
        let inputs = [normal(d, &[1, 8, 14, 14, 768]), normal(d, &[kernel[0], kernel[1], kernel[2], 768])];
        let case = Case::new(&format!("conv3d_depthwise {kernel:?}"), Conv3dDepthwise { padding }, inputs);
        all.push((case, json!({ "kind": "conv3d_depthwise", "shape": kernel, "padding": padding })));
    }
    let rows = [normal(d, &[1576, 768]), normal(d, &[768]), normal(d, &[768])];
    let norm = Case::new("layer_norm 1576×768", LayerNorm { eps: 1e-6 }, rows);
    all.push((norm, json!({ "kind": "layer_norm", "shape": [1576, 768] })));
    let scores = Case::new("softmax 2364×197", Softmax { log: false }, [normal(d, &[2364, 197])]);
    all.push((scores, json!({ "kind": "softmax", "shape": [2364, 197] })));
    for (function, approximate) in [(Function::GeluErf, "none"), (Function::GeluTanh, "tanh")] {
        let case = Case::new(&format!("{function} 1576×3072"), Unary { function }, [normal(d, &[1576, 3072])]);
        all.push((case, json!({ "kind": "gelu", "shape": [1576, 3072], "approximate": approximate })));
    }
    all
}

fn kernels(d: &Device, threads: &str, roofline: Option<&Roofline>) {
    let mut peer = Peer::start(d, threads);
    let (rounds, runs) = effort(d);
    let name = peer.as_ref().map_or("peer", |peer| peer.name);
    println!("| kernel | ours ms | ours | {name} ms | {name} ÷ ours | of the roofline |\n|---|---|---|---|---|---|");
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (case, request) in cases(d).into_iter().filter(|(case, _)| case.label.contains(&wanted)) {
        let mut request = request;
        request["runs"] = runs.into();
        request["dtype"] = dtype().name().into();
        let (flops, bytes) = case.cost();
        // Whatever is made or measured on first use.
        drop(case.run());
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            settle();
            let seconds = best(runs, || drop(case.run()));
            ours.push(seconds);
            settle();
            if let Some(other) = peer.as_mut().and_then(|peer| peer.time(&request)) {
                theirs.push(other);
                ratios.push(other / seconds);
            }
        }
        let seconds = median(ours);
        let rate = if flops > 0.0 {
            format!("{:.0} GFLOP/s", flops / seconds / 1e9)
        } else {
            format!("{:.1} GB/s", bytes / seconds / 1e9)
        };
        let part = |roofline: &Roofline| 100.0 * (flops / roofline.flops).max(bytes / roofline.bytes) / seconds;
        println!(
            "| {} | {:.3} | {rate} | {:.3} | {:.2} | {} |",
            case.label,
            seconds * 1e3,
            median(theirs) * 1e3,
            median(ratios),
            roofline.map_or("?".into(), |roofline| format!("{:.0}%", part(roofline)))
        );
    }
}

/// The operations of each model's forward pass as the meter counts them, with what is fused into them; and for models that are small enough
/// to run anywhere the launches that the device was given.
fn launches(d: &Device, wgpu: &Wgpu) {
    println!("\n| model | operations | launches | ms |\n|---|---|---|---|");
    let fail = |error: tubelet_models::Error| -> ! { panic!("{error}") };
    for preset in ["tubevit-b", "vivit-b-fe", "vidtr-s", "uniformerv2-b16-k400"] {
        let config = Config::named(preset).unwrap_or_else(|error| fail(error));
        let cost = tubelet_models::inspect::measure(&config, 1, DType::F32).unwrap_or_else(|error| fail(error));
        println!("| {preset} | {} | | |", cost.launches);
    }
    for preset in ["tubevit-tiny", "vivit-tiny", "vidtr-tiny", "uniformerv2-tiny"] {
        let config = Config::named(preset).unwrap_or_else(|error| fail(error));
        let cost = tubelet_models::inspect::measure(&config, 1, DType::F32).unwrap_or_else(|error| fail(error));
        let model = config.random(d, DType::F32, 0).unwrap_or_else(|error| fail(error));
        let input = model.input();
        let video: Tensor = normal(d, &[1, input.frames, input.size[0], input.size[1], 3]);
        let pass = || {
            let logits = model.forward(&video, &mut Pass::inference()).and_then(|_| d.synchronize());
            logits.unwrap_or_else(|error| fail(error));
        };
        pass();
        let before = wgpu.launches();
        pass();
        let launches = wgpu.launches() - before;
        println!("| {preset} | {} | {launches} | {:.1} |", cost.launches, best(10, pass) * 1e3);
    }
}

/// Seconds and GFLOP/s of one measurement of the peer program.
fn peer_model(peer: &str, model: &str, threads: &str) -> Option<(f64, f64)> {
    let arguments = ["--model", model, "--dtype", dtype().name(), "--mode", "infer", "--threads", threads, "--reps", "5"];
    let output = Command::new("python3").arg(peer).args(arguments).stderr(Stdio::null()).output().ok()?;
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    let seconds = answer["median_ms"].as_f64()? / 1e3;
    Some((seconds, answer["gflop"].as_f64()? / seconds))
}

fn models(d: &Device, threads: &str, roofline: &Roofline) {
    let peer = std::env::var("TUBELET_PEER").unwrap_or_else(|_| "../shared/peers/torch_peer.py".into());
    println!(
        "\n| model | ours ms | ours GFLOP/s | PyTorch ms | PyTorch GFLOP/s | ratio of GFLOP/s | of the FMA peak |\n|---|---|---|---|---|---|---|"
    );
    let pairs = [
        ("tubevit-b", "tubevit-b"),
        ("vivit-b-fe", "vivit-fe-b"),
        ("vidtr-s", "vidtr-s"),
        ("uniformerv2-b16-ssv2-16", "uniformerv2-b-sth"),
    ];
    for (preset, other) in pairs {
        let config = Config::named(preset).unwrap_or_else(|error| panic!("{error}"));
        let gflop =
            tubelet_models::inspect::measure(&config, 1, DType::F32).unwrap_or_else(|error| panic!("{error}")).flops as f64 / 1e9;
        let (mut ours, mut theirs, mut speeds, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..3 {
            let model = config.random(d, dtype(), 0).unwrap_or_else(|error| panic!("{error}"));
            let input = model.input();
            let video: Tensor = normal(d, &[1, input.frames, input.size[0], input.size[1], 3]);
            let mut pass = || drop(model.forward(&video, &mut Pass::inference()).unwrap_or_else(|error| panic!("{error}")));
            settle();
            pass();
            let seconds = median((0..5).map(|_| best(1, &mut pass)).collect());
            ours.push(seconds);
            if let Some((other, speed)) = peer_model(&peer, other, threads) {
                theirs.push(other);
                speeds.push(speed);
                ratios.push(gflop / seconds / speed);
            }
        }
        let seconds = median(ours);
        println!(
            "| {preset} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {:.0}% |",
            seconds * 1e3,
            gflop / seconds,
            median(theirs) * 1e3,
            median(speeds),
            median(ratios),
            100.0 * gflop * 1e9 / seconds / roofline.flops
        );
    }
}

fn main() {
    let threads = std::env::var("TUBELET_THREADS").unwrap_or_else(|_| "2".into());
    let d = device();
    println!("## {threads} threads\n");
    print!("Device: {}.", d.backend().description());
    let roofline = on_processor(&d).then(Roofline::measure);
    if let Some(roofline) = &roofline {
        let (flops, bytes) = (roofline.flops / 1e9, roofline.bytes / 1e9);
        print!(" Measured in this run: {flops:.0} GFLOP/s of f32 multiply-adds from registers, {bytes:.1} GB/s triad.");
    }
    println!("\n");
    kernels(&d, &threads, roofline.as_ref());
    match (d.backend().as_any().downcast_ref(), &roofline) {
        (Some(wgpu), _) => launches(&d, wgpu),
        (None, Some(roofline)) => models(&d, &threads, roofline),
        (None, None) => {}
    }
}
