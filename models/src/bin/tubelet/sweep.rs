//! `bench --captured`: plans, at one batch or many.

use std::time::Instant;

use serde_json::json;
use tubelet_cuda::{
    Plan,
    driver::{HOPPER, blank},
};
use tubelet_models::{
    Error, Pass, Result, devices,
    engine::{DType, Device, Tensor},
    inspect::{ADAMW, rehearsal},
    params::Params,
    registry::Config,
};

use crate::{bench::Arguments, table::Table};

/// What every chip from Ampere on has.
const AMPERE: (i32, i32) = (8, 0);

/// What a plan takes.
struct Found {
    /// Of a replay, the median; `None` where nothing is computed.
    seconds: Option<f64>,
    launches: usize,
    /// Bytes that are the plan's own.
    planned: usize,
    /// Bytes of what it works on: weights; in training f32 masters and the optimiser's memory.
    beside: usize,
}

/// Plans of every model, pass and batch that is asked for. One that cannot be made, as where a batch is too large, is a line below the table; a failure is
/// that there is none at all.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let batches = match arguments.batches.as_slice() {
        [] => vec![arguments.batch],
        batches => batches.iter().map(|&batch| batch as usize).collect(),
    };
    let passes: &[&str] = match (arguments.train, arguments.batches.is_empty()) {
        (true, _) => &["training"],
        (false, true) => &["inference"],
        (false, false) => &["inference", "training"],
    };
    let mut table =
        Table::new(["model", "pass", "clips", "launches", "planned MiB", "MiB a clip", "beside MiB", "ms", "clips/s"]);
    let (mut failures, mut made) = (Vec::new(), 0);
    for model in &arguments.models {
        let name = &model.to_string_lossy();
        for &pass in passes {
            for &batch in &batches {
                let found = match (pass, device(arguments)?) {
                    ("training", device) => training(arguments, &arguments.config(model)?, batch, &device),
                    (_, device) => inference(arguments, &arguments.config(model)?, batch, &device),
                };
                made += usize::from(found.is_ok());
                match found {
                    Ok(found) if arguments.json => print(name, pass, batch, &found),
                    Ok(found) => row(&mut table, name, pass, batch, &found),
                    Err(error) => failures.push(format!("{name}, {pass}, {batch} clips: {error}")),
                }
            }
        }
    }
    if !arguments.json {
        table.print();
    }
    failures.iter().for_each(|failure| say!("{failure}"));
    Ok(made > 0)
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn row(table: &mut Table, name: &str, pass: &str, batch: usize, found: &Found) {
    let time = |of: fn(f64, f64) -> String| found.seconds.map_or("-".into(), |seconds| of(seconds, batch as f64));
    table.row([
        name.to_owned(),
        pass.to_owned(),
        batch.to_string(),
        found.launches.to_string(),
        format!("{:.1}", mib(found.planned)),
        format!("{:.1}", mib(found.planned) / batch as f64),
        format!("{:.1}", mib(found.beside)),
        time(|seconds, _| format!("{:.1}", seconds * 1e3)),
        time(|seconds, clips| format!("{:.2}", clips / seconds)),
    ]);
}

fn print(name: &str, pass: &str, batch: usize, found: &Found) {
    let Found { seconds, launches, planned, beside } = found;
    let clips = seconds.map(|seconds| batch as f64 / seconds);
    let line = json!({
        "model": name, "pass": pass, "batch": batch, "launches": launches, "planned_bytes": planned,
        "planned_bytes_per_clip": planned / batch, "beside_bytes": beside, "seconds": seconds, "clips_per_second": clips,
    });
    say!("{line}");
}

/// A device of its own for each plan, so that all its memory is the plan's.
fn device(arguments: &Arguments) -> Result<Device> {
    match (arguments.planned, arguments.device.ends_with(":90")) {
        (false, _) => devices::open(&arguments.device),
        (true, false) => Ok(blank::device(AMPERE)),
        (true, true) => Ok(blank::device(HOPPER)),
    }
}

/// The median of some passes after one.
fn median(arguments: &Arguments, mut pass: impl FnMut() -> Result<()>) -> Result<Option<f64>> {
    if arguments.planned {
        return Ok(None);
    }
    pass()?;
    let mut timed = || -> Result<f64> {
        let start = Instant::now();
        pass()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut seconds = (0..arguments.passes.max(1)).map(|_| timed()).collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(Some(seconds[seconds.len() / 2]))
}

fn inference(arguments: &Arguments, config: &Config, batch: usize, device: &Device) -> Result<Found> {
    let input = config.input();
    let shape = [batch, input.frames, input.size[0], input.size[1], 3];
    let (model, video) = match arguments.planned {
        true => {
            let mut params = Params::empty(device, arguments.dtype);
            (config.build(&mut params)?, Tensor::empty(device, DType::U8, &shape)?)
        }
        false => {
            let model = config.random(device, arguments.dtype, 0)?;
            let noise: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| ((i * 7919) >> 3) as u8).collect();
            (model, Tensor::from_slice(device, &shape, &noise)?)
        }
    };
    let mut plan = Plan::capture(device, [&video], |[video]| model.forward(video, &mut Pass::inference()))?;
    drop(video);
    let seconds = median(arguments, || {
        plan.replay()?;
        device.synchronize()
    })?;
    let planned = plan.memory();
    Ok(Found { seconds, launches: plan.launches(), planned, beside: device.memory().live - planned })
}

/// Whole steps: forward pass, loss, backward pass, clipping, AdamW, and the upload of the clips.
fn training(arguments: &Arguments, config: &Config, batch: usize, device: &Device) -> Result<Found> {
    let params = match arguments.planned {
        true => Params::empty(device, DType::F32),
        false => Params::random(device, DType::F32, 0),
    };
    let (mut trainer, batch) = rehearsal(config, ADAMW, batch, arguments.dtype, &arguments.freeze, params)?;
    trainer.capture(true)?;
    // The first makes the optimiser's memory, the second is captured.
    trainer.step(&batch)?;
    trainer.step(&batch)?;
    let seconds = median(arguments, || {
        trainer.step(&batch)?;
        device.synchronize()
    })?;
    let (planned, launches) = trainer.planned().ok_or_else(|| Error::invalid("--captured", "no step was captured"))?;
    Ok(Found { seconds, launches, planned, beside: device.memory().live - planned })
}
