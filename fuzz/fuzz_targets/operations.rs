//! Operations: the CPU agrees with the reference on every level of instructions, or both refuse.
//!
//! An input is the name of an operation in a line of its own, and bytes that are its choices: the largest dimension, the
//! element type, the kind of numbers, the level of instructions, then what `samples` choose.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};
use tubelet_engine::{
    DType, Device, Op,
    cpu::{Cpu, CpuOptions, Level},
    samples::{self, Choices, Values},
};

thread_local! {
    /// The reference, and a device for each level of instructions that this machine has: to make one takes longer than to
    /// run a sample.
    static DEVICES: RefCell<(Device, Vec<Device>)> = RefCell::new((Device::reference(), levels()));
}

fn levels() -> Vec<Device> {
    let device = |&level: &Level| {
        let options = CpuOptions { threads: Some(2), simd: Some(level), memory_limit: None, guard: true };
        Cpu::new(options).ok().map(Device::new)
    };
    Level::ALL.iter().filter_map(device).collect()
}

/// An input's operation and its choices.
fn parts(data: &[u8]) -> Option<(&'static str, &[u8])> {
    let line = data.iter().position(|&byte| byte == b'\n')?;
    let name = Op::NAMES.iter().find(|name| name.as_bytes() == &data[..line])?;
    Some((name, &data[line + 1..]))
}

// A mutated name would name no operation: one in eight inputs gets another operation, the others get other choices.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let (name, choices) = parts(&data[..size]).unwrap_or((Op::NAMES[0], &[]));
    let other = seed as usize / 8 % Op::NAMES.len();
    let name = if seed.is_multiple_of(8) { Op::NAMES[other] } else { name };
    let start = name.len() + 1;
    let Some(room) = max_size.checked_sub(start) else { return size };
    let mut choices = choices.to_vec();
    let used = choices.len().min(room);
    choices.resize(room, 0);
    let used = fuzzer_mutate(&mut choices, used, room);
    data[..start].copy_from_slice(format!("{name}\n").as_bytes());
    data[start..start + used].copy_from_slice(&choices[..used]);
    start + used
});

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((name, choices)) = parts(data) else { return Corpus::Reject };
    let mut choices = Choices::from(choices);
    let size = choices.below(70);
    let dtype = DType::FLOATS[choices.below(3)];
    let values = [Values::Integers, Values::Normal, Values::Special][choices.below(3)];
    DEVICES.with_borrow(|(reference, levels)| {
        let device = &levels[choices.below(levels.len())];
        let Some(sample) = samples::sample(name, choices, size, dtype, values) else { return };
        if let Err(error) = samples::check_against(reference, device, &sample) {
            panic!("{error}");
        }
    });
    Corpus::Keep
});
