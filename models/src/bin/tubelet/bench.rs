use std::time::Instant;

use clap::Args;
use serde_json::json;
use tubelet_models::{
    Pass, Result, devices,
    engine::{DType, Tensor},
    inspect::measure,
    registry::Config,
};

use crate::{classify::dtype, table::Table};

/// Time whole models on this machine. (Kernels, with confidence intervals: `cargo bench -p tubelet-benches`.)
#[derive(Args)]
pub struct Arguments {
    /// Presets or configuration files.
    #[arg(default_values_t = ["tubevit-b", "vivit-b-fe", "vidtr-s", "uniformerv2-b16-k400"].map(String::from))]
    models: Vec<String>,
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32, bf16 or f16.
    #[arg(long, default_value = "f32", value_parser = dtype)]
    dtype: DType,
    /// Clips at once.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Timed passes after one that is not.
    #[arg(long, default_value_t = 5)]
    passes: usize,
    /// One JSON object per model.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    let device = devices::open(&arguments.device)?;
    let mut table = Table::new(["model", "ms", "clips/s", "GFLOP/s"]);
    for name in &arguments.models {
        let config = Config::named(name)?;
        let gflop = measure(&config, arguments.batch, arguments.dtype)?.flops as f64 / 1e9;
        let model = config.random(&device, arguments.dtype, 0)?;
        let input = model.input();
        let shape = [arguments.batch, input.frames, input.size[0], input.size[1], 3];
        let noise: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| ((i * 7919) >> 3) as u8).collect();
        let video = Tensor::from_slice(&device, &shape, &noise)?;
        let pass = || -> Result<f64> {
            let start = Instant::now();
            model.forward(&video, &mut Pass::inference())?;
            device.synchronize()?;
            Ok(start.elapsed().as_secs_f64())
        };
        pass()?;
        let mut seconds = (0..arguments.passes.max(1)).map(|_| pass()).collect::<Result<Vec<_>>>()?;
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let clips = arguments.batch as f64 / median;
        if arguments.json {
            println!("{}", json!({ "model": name, "seconds": median, "clips_per_second": clips, "gflops": gflop / median }));
        } else {
            table.row([name.clone(), format!("{:.1}", median * 1e3), format!("{clips:.2}"), format!("{:.0}", gflop / median)]);
        }
    }
    if !arguments.json {
        table.print();
    }
    Ok(true)
}
