//! Random descriptors and operands: the CPU agrees with the reference on every level of instructions, or both refuse.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tubelet_engine::{
    DType, Device, Op, Philox,
    cpu::{Cpu, CpuOptions, Level},
    samples::{self, Values},
};

fuzz_target!(|data: [u8; 12]| {
    let [name, size, dtype, values, seed @ ..] = data;
    let name = Op::NAMES[name as usize % Op::NAMES.len()];
    let dtype = DType::FLOATS[dtype as usize % 3];
    let level = Level::ALL[values as usize / 4 % Level::ALL.len()];
    let values = [Values::Integers, Values::Normal, Values::Special][values as usize % 3];
    let mut rng = Philox::new(u64::from_le_bytes(seed));
    let Some(sample) = samples::sample(name, &mut rng, size as usize % 70, dtype, values) else { return };
    let options = CpuOptions { threads: Some(2), simd: Some(level), memory_limit: None, guard: true };
    let Ok(cpu) = Cpu::new(options) else { return };
    if let Err(error) = samples::check(&Device::new(cpu), &sample) {
        panic!("{error}");
    }
});
