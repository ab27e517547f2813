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

/// Numbers that look random and are the same every time.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Between -1 and 1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// The nearest bf16 to a number, as bits.
pub fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

pub fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest f16 to a number that is zero or normal there, as bits.
pub fn f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, magnitude) = ((bits >> 16 & 0x8000) as u16, bits & 0x7fff_ffff);
    if magnitude < 0x3880_0000 {
        return sign;
    }
    let rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    sign | ((rounded - 0x3800_0000) >> 13) as u16
}

pub fn from_f16(bits: u16) -> f32 {
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    if magnitude == 0 {
        return f32::from_bits(sign);
    }
    f32::from_bits(sign | ((magnitude << 13) + 0x3800_0000))
}

pub fn halves(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A module of one kernel `k` with a body; parameters are `p0`, `p1`, ... of 64 bits.
pub fn kernel(parameters: usize, body: &str) -> String {
    let list: Vec<String> = (0..parameters).map(|n| format!(".param .u64 p{n}")).collect();
    format!(".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k({})\n{{\n{body}\n}}\n", list.join(", "))
}
