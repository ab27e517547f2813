//! Whole models, forward.

use tubelet_benches::{Roofline, best, dtype, normal};
use tubelet_engine::{DType, Device, Tensor};
use tubelet_models::{Error, Pass, registry::Config};
use tubelet_wgsl::Wgpu;

use crate::{Options, cell, median, peers::torch_model, settle};

fn fail(error: Error) -> ! {
    panic!("{error}")
}

/// The operations of each model's forward pass as the meter counts them, with what is fused into them; and for models that are small enough
/// to run anywhere the launches that the device was given.
pub fn launches(d: &Device, wgpu: &Wgpu) {
    println!("| model | operations | launches | ms |\n|---|---|---|---|");
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
    println!();
}

/// GFLOP/s of one measurement of the peer program.
fn peer(model: &str, threads: &str, compile: bool) -> Option<f64> {
    let mut arguments = vec!["--model", model, "--dtype", dtype().name(), "--mode", "infer", "--threads", threads, "--reps", "5"];
    if compile {
        arguments.push("--compile");
    }
    let answer = torch_model(&arguments)?;
    Some(answer["gflop"].as_f64()? / answer["median_ms"].as_f64()? * 1e3)
}

/// Prints the table of models. Ratios are of GFLOP/s, so that a row's work need not be equal to the last product.
pub fn compare(d: &Device, threads: &str, roofline: &Roofline, options: &Options) {
    println!(
        "| model | ours ms | ours GFLOP/s | eager GFLOP/s | ours ÷ eager | compiled GFLOP/s | ours ÷ compiled | of the peak |\n|---|---|---|---|---|---|---|---|"
    );
    let pairs = [
        ("tubevit-b", "tubevit-b"),
        ("vivit-b-fe", "vivit-fe-b"),
        ("vidtr-s", "vidtr-s"),
        ("uniformerv2-b16-ssv2-16", "uniformerv2-b-sth"),
    ];
    for (preset, other) in pairs.into_iter().filter(|(preset, _)| preset.contains(&options.only)) {
        let config = Config::named(preset).unwrap_or_else(|error| fail(error));
        let cost = tubelet_models::inspect::measure(&config, 1, DType::F32).unwrap_or_else(|error| fail(error));
        let gflop = cost.flops as f64 / 1e9;
        let (mut ours, mut theirs) = (Vec::new(), [false, true].map(|compile| (compile, Vec::new(), Vec::new())));
        for round in 0..options.rounds.unwrap_or(3) {
            eprintln!("{preset}, round {}", round + 1);
            // Made anew in each round, so that the peer has the memory in its turn.
            let model = config.random(d, dtype(), 0).unwrap_or_else(|error| fail(error));
            let input = model.input();
            let video: Tensor = normal(d, &[1, input.frames, input.size[0], input.size[1], 3]);
            let mut pass = || drop(model.forward(&video, &mut Pass::inference()).unwrap_or_else(|error| fail(error)));
            settle();
            pass();
            let seconds = median((0..5).map(|_| best(1, &mut pass)).collect());
            drop(model);
            ours.push(seconds);
            for (compile, speeds, ratios) in &mut theirs {
                if let Some(speed) = peer(other, threads, *compile) {
                    speeds.push(speed);
                    ratios.push(gflop / seconds / speed);
                }
            }
        }
        let seconds = median(ours);
        let columns = theirs.into_iter().map(|(_, speeds, ratios)| (median(speeds), median(ratios)));
        let columns: String = columns.map(|(speed, ratio)| format!(" {} | {} |", cell(speed, 0), cell(ratio, 2))).collect();
        let part = 100.0 * gflop * 1e9 / seconds / roofline.peak(dtype());
        println!("| {preset} | {:.0} | {:.0} |{columns} {part:.0}% |", seconds * 1e3, gflop / seconds);
    }
    println!();
}
