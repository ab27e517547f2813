use std::{
    ffi::{OsStr, OsString},
    time::Instant,
};

use clap::Args;
use serde_json::json;
use tubelet_models::{
    Error, Pass, Result, devices,
    engine::{DType, Tensor},
    inspect::{ADAMW, measure, measure_training, rehearsal},
    params::Params,
    registry::Config,
};

use crate::{
    source::{clips, dtype},
    sweep,
    table::Table,
};

/// Time whole models on this machine. (Kernels, with confidence intervals: `cargo bench -p tubelet-benches`.)
#[derive(Args)]
pub struct Arguments {
    /// Presets or configuration files.
    #[arg(default_values = ["tubevit-b", "vivit-b-fe", "vidtr-s", "uniformerv2-b16-k400"])]
    pub models: Vec<OsString>,
    /// Where to compute: see `tubelet devices`.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// f32, bf16 or f16.
    #[arg(long, default_value = "f32", value_parser = dtype)]
    pub dtype: DType,
    /// Clips at once.
    #[arg(long, default_value_t = 1, value_parser = clips)]
    pub batch: usize,
    /// Training steps with AdamW instead of inference, with the peak of the device's memory.
    #[arg(long)]
    pub train: bool,
    /// Parameters whose names start so are not trained (SFA: patch_embed, spatial); may be given several times.
    #[arg(long, requires = "train")]
    pub freeze: Vec<String>,
    /// Another number of frames than the configuration's (ViViT).
    #[arg(long)]
    frames: Option<usize>,
    /// Timed passes after one that is not.
    #[arg(long, default_value_t = 5)]
    pub passes: usize,
    /// What each kernel of a forward pass takes, by the device's clock (wgpu, cuda; on cuda-emulated, by the emulator's own time). The
    /// passes themselves are slower for it.
    #[arg(long, conflicts_with = "train")]
    profile: bool,
    /// Replay a captured plan instead of computing eagerly (cuda, where it is a CUDA graph; cuda-emulated), with the memory that it reserves.
    #[arg(long, conflicts_with = "profile")]
    pub captured: bool,
    /// With --captured: plans of inference and of training (with --train of training alone) at each of these numbers of clips, as 1,8,64,256.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..), requires = "captured", conflicts_with = "batch")]
    pub batches: Vec<u32>,
    /// With --captured: what plans reserve, and no times; nothing is computed, so no GPU is needed. Of the kernels for all chips, with
    /// `--device cuda-emulated:90` of those for Hopper.
    #[arg(long, requires = "captured")]
    pub planned: bool,
    /// One JSON object per model.
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    /// A configuration, perhaps with another number of frames.
    pub fn config(&self, name: &OsStr) -> Result<Config> {
        let mut config = Config::named(name)?;
        match (&mut config, self.frames) {
            (Config::Vivit(vivit), Some(frames)) => vivit.input.frames = frames,
            (_, Some(_)) => return Err(Error::invalid("--frames", "only ViViT takes any number of frames")),
            (_, None) => {}
        }
        Ok(config)
    }
}

pub fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.captured {
        return sweep::run(arguments);
    }
    if arguments.train {
        return train(arguments);
    }
    let device = match arguments.profile {
        true => devices::open_profiled(&arguments.device)?,
        false => devices::open(&arguments.device)?,
    };
    let mut table = Table::new(["model", "ms", "clips/s", "GFLOP/s"]);
    for name in &arguments.models {
        let (config, name) = (arguments.config(name)?, name.to_string_lossy());
        let gflop = measure(&config, arguments.batch, arguments.dtype)?.flops as f64 / 1e9;
        let model = config.random(&device, arguments.dtype, 0)?;
        let input = model.input();
        let shape = [arguments.batch, input.frames, input.size[0], input.size[1], 3];
        let noise: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| ((i * 7919) >> 3) as u8).collect();
        let video = Tensor::from_slice(&device, &shape, &noise)?;
        let pass = || -> Result<f64> {
            let start = Instant::now();
            drop(model.forward(&video, &mut Pass::inference())?);
            device.synchronize()?;
            Ok(start.elapsed().as_secs_f64())
        };
        pass()?;
        if arguments.profile {
            devices::take_times(&device)?;
        }
        let mut seconds = (0..arguments.passes.max(1)).map(|_| pass()).collect::<Result<Vec<_>>>()?;
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        let rate = arguments.batch as f64 / median;
        if arguments.json {
            say!("{}", json!({ "model": name, "seconds": median, "clips_per_second": rate, "gflops": gflop / median }));
        } else {
            table.row([name.to_string(), format!("{:.1}", median * 1e3), format!("{rate:.2}"), format!("{:.0}", gflop / median)]);
        }
        if arguments.profile {
            say!("{name}, a pass:");
            let mut table = Table::new(["kernel", "launches", "ms"]);
            let passes = arguments.passes.max(1) as f64;
            for (kernel, launches, seconds) in devices::take_times(&device)? {
                let cells = [format!("{:.0}", launches as f64 / passes), format!("{:.3}", seconds * 1e3 / passes)];
                table.row([kernel].into_iter().chain(cells));
            }
            table.print();
            say!("");
        }
    }
    if !arguments.json {
        table.print();
    }
    Ok(true)
}

/// MiB of memory that this process had at its peak, the program itself included, where the system says so (Linux).
fn resident_peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()?;
    Some(kib / 1024.0)
}

/// Whole training steps: forward pass, loss, backward pass, AdamW.
fn train(arguments: &Arguments) -> Result<bool> {
    let mut table = Table::new(["model", "ms a step", "clips/s", "GFLOP/s", "MiB at the peak", "trained M"]);
    for name in &arguments.models {
        let (config, freeze) = (arguments.config(name)?, &arguments.freeze);
        let name = name.to_string_lossy();
        let gflop = measure_training(&config, ADAMW, arguments.batch, arguments.dtype, freeze)?.flops as f64 / 1e9;
        // A device of its own for each model, so that the peak is the model's.
        let device = devices::open(&arguments.device)?;
        let params = Params::random(&device, DType::F32, 0);
        let (mut trainer, batch) = rehearsal(&config, ADAMW, arguments.batch, arguments.dtype, freeze, params)?;
        let mut step = || -> Result<f64> {
            let start = Instant::now();
            trainer.step(&batch)?;
            device.synchronize()?;
            Ok(start.elapsed().as_secs_f64())
        };
        step()?;
        device.backend().reset_peak();
        let mut seconds = (0..arguments.passes.max(1)).map(|_| step()).collect::<Result<Vec<_>>>()?;
        seconds.sort_by(f64::total_cmp);
        let (median, peak) = (seconds[seconds.len() / 2], device.memory().peak as f64 / f64::from(1 << 20));
        let (clips, trained) = (arguments.batch as f64 / median, trainer.store().parameters() as f64 / 1e6);
        if arguments.json {
            say!(
                "{}",
                json!({
                    "model": name, "seconds": median, "clips_per_second": clips, "gflops": gflop / median, "peak_mib": peak,
                    "process_mib": resident_peak(), "trained_millions": trained,
                })
            );
        } else {
            let cells =
                [format!("{:.1}", median * 1e3), format!("{clips:.2}"), format!("{:.0}", gflop / median), format!("{peak:.0}")];
            let [a, b, c, d] = cells;
            table.row([name.to_string(), a, b, c, d, format!("{trained:.1}")]);
        }
    }
    if !arguments.json {
        table.print();
    }
    Ok(true)
}
