//! What the tests of all operations share: the devices under test and the properties that every kernel has.
//!
//! The device is a parameter: `TUBELET_TEST_DEVICE` names it (`cpu`, `cuda-emulated`), and every property runs on it unchanged.

use tubelet_cuda::driver::emulated;
use tubelet_engine::{
    DType, Device, Error, Philox, Result, Tensor,
    cpu::{Cpu, CpuOptions, Level},
    samples::{self, Sample, Values},
};

/// The devices under test, with the number of threads where that is a choice: every level of vector instructions that this machine has,
/// each with guarded memory (poisoned outputs, canaries on both sides).
pub fn devices(threads: usize) -> Vec<Device> {
    let name = std::env::var("TUBELET_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    if name == "cuda-emulated" {
        return vec![emulated::device(emulated::Options { threads, ..emulated::Options::default() })];
    }
    assert_eq!(name, "cpu", "TUBELET_TEST_DEVICE: no such device in this build");
    let level = |level| Cpu::new(CpuOptions { threads: Some(threads), simd: Some(level), memory_limit: None, guard: true });
    let available = Level::ALL.into_iter().filter(|level| level.available());
    available.map(|l| Device::new(level(l).unwrap_or_else(|error| panic!("{error}")))).collect()
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
