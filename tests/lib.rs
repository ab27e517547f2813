//! What the tests of all operations share: the devices under test and the properties that every kernel has.
//!
//! The device is a parameter: `TUBELET_TEST_DEVICE` names it (`cpu`; `wgpu`, with an adapter's number if it is not the first; or
//! `wgpu-plain`, without any optional feature of the adapter), and every property runs on it unchanged.

use std::sync::LazyLock;

use tubelet_engine::{
    DType, Device, Error, Philox, Result,
    cpu::{Cpu, CpuOptions, Level},
    samples::{self, Sample, Values},
};
use tubelet_wgsl::{Wgpu, WgpuOptions};

/// What `TUBELET_TEST_DEVICE` names.
enum Column {
    Cpu,
    /// One device for all tests: its pipelines take longer to make than to run.
    Wgpu(Device),
}

static COLUMN: LazyLock<Column> = LazyLock::new(|| {
    let name = std::env::var("TUBELET_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    if name == "cpu" {
        return Column::Cpu;
    }
    let plain = name == "wgpu-plain";
    let adapter = match name.strip_prefix("wgpu") {
        Some("" | "-plain") => Some(0),
        Some(number) => number.strip_prefix(':').and_then(|number| number.parse().ok()),
        None => None,
    };
    let adapter = adapter.unwrap_or_else(|| panic!("TUBELET_TEST_DEVICE={name}: cpu, wgpu, wgpu:N or wgpu-plain"));
    let backend = Wgpu::new(WgpuOptions { adapter, plain, guard: true, ..Default::default() });
    let device = Device::new(backend.unwrap_or_else(|error| panic!("{error}")));
    println!("on {}: {}", device.name(), device.backend().description());
    Column::Wgpu(device)
});

/// How many cases a property tries: fewer on a device where a case costs a new pipeline.
pub fn cases(cpu: u32) -> u32 {
    match *COLUMN {
        Column::Cpu => cpu,
        Column::Wgpu(_) => cpu / 3,
    }
}

/// The devices under test, with the number of threads where that is a choice: on the CPU every level of vector instructions that this machine
/// has. All of them have guarded memory: poisoned outputs and, on the CPU, canaries on both sides; shaders check their bounds.
pub fn devices(threads: usize) -> Vec<Device> {
    match &*COLUMN {
        Column::Wgpu(device) => vec![device.clone()],
        Column::Cpu => {
            let level =
                |level| Cpu::new(CpuOptions { threads: Some(threads), simd: Some(level), memory_limit: None, guard: true });
            let available = Level::ALL.into_iter().filter(|level| level.available());
            available.map(|l| Device::new(level(l).unwrap_or_else(|error| panic!("{error}")))).collect()
        }
    }
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
