//! What the tests share.
#![allow(dead_code, reason = "every test uses a part")]

use tubelet_ptx_emulator::{Emulator, Options};

/// An emulator with conveniences.
pub struct Device {
    pub emulator: Emulator,
}

impl Device {
    pub fn new(threads: usize) -> Device {
        Device { emulator: Emulator::new(Options { threads, ..Options::default() }) }
    }

    pub fn empty(&self, bytes: usize) -> u64 {
        self.emulator.allocate(bytes).expect("there is room")
    }

    pub fn upload(&self, bytes: &[u8]) -> u64 {
        let address = self.empty(bytes.len());
        self.emulator.write(address, bytes).expect("the allocation is as large");
        address
    }

    pub fn bytes(&self, address: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.emulator.read(address, &mut bytes).expect("the range is allocated");
        bytes
    }

    pub fn words(&self, address: u64, count: usize) -> Vec<u32> {
        self.bytes(address, 4 * count).chunks(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    pub fn floats(&self, address: u64, count: usize) -> Vec<f32> {
        self.words(address, count).into_iter().map(f32::from_bits).collect()
    }
}

/// The bytes of numbers.
pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
