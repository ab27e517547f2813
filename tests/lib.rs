//! What the tests of all operations share: the devices under test and the properties that every kernel has.
//!
//! The device is a parameter: `TUBELET_TEST_DEVICE` names it, and every property runs on it unchanged. It is `cpu`; `wgpu`, with an adapter's
//! number if it is not the first, or `wgpu-plain`, without any optional feature of the adapter; `cuda`, with a number, or `cuda-emulated`,
//! `cuda-emulated:90` with the kernels that Hopper has of its own.

use std::sync::LazyLock;

use tubelet_cuda::emulated;
use tubelet_engine::{
    DType, Device, Error, Philox, Result, Tensor,
    cpu::{Cpu, CpuOptions, Level},
    samples::{self, Sample, Values},
};
use tubelet_wgsl::{Wgpu, WgpuOptions};

/// What `TUBELET_TEST_DEVICE` names.
enum Column {
    Cpu,
    CudaEmulated(fn(emulated::Options) -> Device),
    /// One device for all tests: its pipelines take longer to make than to run.
    Gpu(Device),
}

static COLUMN: LazyLock<Column> = LazyLock::new(|| {
    let name = std::env::var("TUBELET_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    let (kind, number) = name.split_once(':').unwrap_or((&name, "0"));
    let number = number.parse().unwrap_or_else(|_| panic!("TUBELET_TEST_DEVICE={name}: after the colon comes a number"));
    let device = match kind {
        "cpu" => return Column::Cpu,
        "cuda-emulated" if number == 90 => return Column::CudaEmulated(emulated::hopper),
        "cuda-emulated" if name == kind => return Column::CudaEmulated(emulated::device),
        "cuda" => tubelet_cuda::cuda(number),
        "wgpu" | "wgpu-plain" => {
            let options = WgpuOptions { adapter: number, plain: kind == "wgpu-plain", guard: true, ..Default::default() };
            Wgpu::new(options).map(Device::new)
        }
        _ => panic!("TUBELET_TEST_DEVICE={name}: cpu, wgpu[:N], wgpu-plain[:N], cuda[:N] or cuda-emulated[:90]"),
    };
    let device = device.unwrap_or_else(|error| panic!("{error}"));
    println!("on {}: {}", device.name(), device.backend().description());
    Column::Gpu(device)
});

/// How many cases a property tries: fewer on a device where a case costs a new pipeline, or an emulation.
pub fn cases(cpu: u32) -> u32 {
    match *COLUMN {
        Column::Cpu => cpu,
        Column::CudaEmulated(_) | Column::Gpu(_) => cpu / 3,
    }
}

/// The devices under test, with the number of threads where that is a choice: on the CPU every level of vector instructions that this machine
/// has. All of them have guarded memory: poisoned outputs and, on the CPU, canaries on both sides; shaders check their bounds, and the emulator
/// sees every stray access.
pub fn devices(threads: usize) -> Vec<Device> {
    match &*COLUMN {
        Column::Gpu(device) => vec![device.clone()],
        Column::CudaEmulated(device) => vec![device(emulated::Options { threads, ..emulated::Options::default() })],
        Column::Cpu => LEVELS.iter().map(|&level| cpu(level, threads)).collect(),
    }
}

/// The levels under test: `TUBELET_SIMD` alone, or all that this machine has. AMX is among them without a processor that has it, on its emulator.
static LEVELS: LazyLock<Vec<Level>> = LazyLock::new(|| {
    let emulated = |level| {
        level == Level::Amx
            && Level::Avx512Bf16.available()
            && tubelet_amx_emulator::install().inspect_err(|reason| println!("amx is skipped: {reason}")).is_ok()
    };
    let options = CpuOptions::from_env().unwrap_or_else(|error| panic!("{error}"));
    let wanted = options.simd.map_or(Level::ALL.to_vec(), |level| vec![level]);
    wanted.into_iter().filter(|&level| level.available() || emulated(level)).collect()
});

fn cpu(level: Level, threads: usize) -> Device {
    let options = CpuOptions { threads: Some(threads), simd: Some(level), memory_limit: None, guard: true };
    if level.available() {
        return Device::new(Cpu::new(options).unwrap_or_else(|error| panic!("{error}")));
    }
    // SAFETY: levels under test that are not available are emulated.
    Device::new(unsafe { Cpu::assume(options) })
}

/// A sample of `name`, which must be an operation.
pub fn draw(name: &str, seed: u64, size: usize, dtype: DType, values: Values) -> Sample {
    let sample = samples::sample(name, &mut Philox::new(seed), size, dtype, values);
    sample.unwrap_or_else(|| panic!("no operation {name}"))
}

/// Every device agrees with the reference.
pub fn agrees(name: &str, seed: u64, size: usize, dtype: DType, values: Values) -> Result<()> {
    let sample = draw(name, seed, size, dtype, values);
    devices(2).iter().try_for_each(|device| {
        let level = device.backend().description();
        samples::check(device, &sample).map(|_| ()).map_err(|error| Error::invalid(level, error.to_string()))
    })
}

/// Results have the same bits for 1, 2 and 3 threads, and the second time.
pub fn deterministic(name: &str, seed: u64, size: usize, dtype: DType) -> Result<()> {
    let sample = draw(name, seed, size, dtype, Values::Normal);
    let bits = |device: &Device| -> Result<Vec<Vec<u64>>> {
        let results = samples::run(device, &sample)?;
        results.iter().map(|x| Ok(x.to_f64_vec()?.into_iter().map(f64::to_bits).collect())).collect()
    };
    let [one, two, three] = [1, 2, 3].map(devices);
    for ((one, two), three) in one.iter().zip(&two).zip(&three) {
        let expected = bits(one)?;
        for device in [one, two, three] {
            if bits(device)? != expected {
                let message = format!("{:?}: other bits with {}", sample.op, device.backend().description());
                return Err(Error::invalid(name, message));
            }
        }
    }
    Ok(())
}

/// Small integers that look random: from -4 to 4, from 0 to 15 as bytes. Sums of thousands of their products are exact in f32.
pub fn integers(device: &Device, dtype: DType, shape: &[usize], seed: u64) -> Result<Tensor> {
    let mut rng = Philox::new(seed);
    let mut draw = || if dtype == DType::U8 { rng.below(16) as f32 } else { rng.below(9) as f32 - 4.0 };
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    Tensor::from_f32(device, dtype, shape, &data)
}

/// Every device gives exactly what the reference gives.
pub fn equals_the_reference(what: &str, run: impl Fn(&Device) -> Result<Vec<Tensor>>) -> Result<()> {
    let expected = run(&Device::reference())?;
    for device in devices(2) {
        for (i, (ours, expected)) in run(&device)?.iter().zip(&expected).enumerate() {
            let (ours, expected) = (ours.to_f64_vec()?, expected.to_f64_vec()?);
            if let Some(at) = (0..expected.len()).find(|&at| ours.get(at) != expected.get(at)) {
                let message = format!("result {i}, element {at}: {:?}, expected {}", ours.get(at), expected[at]);
                return Err(Error::invalid(format!("{what} on {}", device.backend().description()), message));
            }
        }
    }
    Ok(())
}
