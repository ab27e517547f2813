//! What the tests share.
#![allow(dead_code, reason = "every test uses a part")]

use tubelet_ptx_emulator::{Emulator, Launch, Module, Options};

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

/// Applies instructions to operands, one thread each: `%a0` to `%a2` hold them as 64 bits, `%r` as 32, `%h` as 16, `%f` as f32, `%d` as
/// f64; the result is what is left in `%a3`, `%r3`, `%h3`, `%f3` or `%d3`.
pub fn apply(instructions: &str, result: &str, operands: &[[u64; 3]]) -> Vec<u64> {
    let collect = match result {
        "a" => "",
        "r" => "cvt.u64.u32 %a3, %r3;",
        "h" => "cvt.u64.u16 %a3, %h3;",
        "f" => "mov.b32 %r3, %f3; cvt.u64.u32 %a3, %r3;",
        _ => "mov.b64 %a3, %d3;",
    };
    let body = format!(
        ".reg .b64 %a<4>; .reg .b32 %r<4>; .reg .b16 %h<4>; .reg .f32 %f<4>; .reg .f64 %d<4>; .reg .pred %p<4>;
        .reg .b64 %from, %to, %at; .reg .b32 %t, %n, %b;
        ld.param.u64 %from, [p0]; ld.param.u64 %to, [p1];
        mov.u32 %t, %tid.x; mov.u32 %n, %ntid.x; mov.u32 %b, %ctaid.x; mad.lo.u32 %t, %b, %n, %t;
        mul.wide.u32 %at, %t, 24; add.s64 %from, %from, %at; mul.wide.u32 %at, %t, 8; add.s64 %to, %to, %at;
        ld.global.u64 %a0, [%from]; ld.global.u64 %a1, [%from+8]; ld.global.u64 %a2, [%from+16];
        cvt.u32.u64 %r0, %a0; cvt.u32.u64 %r1, %a1; cvt.u32.u64 %r2, %a2;
        cvt.u16.u64 %h0, %a0; cvt.u16.u64 %h1, %a1; cvt.u16.u64 %h2, %a2;
        mov.b32 %f0, %r0; mov.b32 %f1, %r1; mov.b32 %f2, %r2; mov.b64 %d0, %a0; mov.b64 %d1, %a1; mov.b64 %d2, %a2;
        {instructions}
        {collect}
        st.global.u64 [%to], %a3; ret;"
    );
    let module = Module::parse(&kernel(2, &body)).unwrap_or_else(|fault| panic!("{fault}"));
    let device = Device::new(1);
    let mut padded = operands.to_vec();
    padded.resize(operands.len().next_multiple_of(64), [0; 3]);
    let bytes: Vec<u8> = padded.iter().flatten().flat_map(|v| v.to_le_bytes()).collect();
    let (from, to) = (device.upload(&bytes), device.empty(8 * padded.len()));
    let launch = Launch { grid: [padded.len() as u32 / 64, 1, 1], block: [64, 1, 1], dynamic_shared: 0 };
    let parameters = [&from.to_le_bytes()[..], &to.to_le_bytes()];
    device.emulator.launch(&module, "k", launch, &parameters).unwrap_or_else(|fault| panic!("{fault}"));
    let all = device.words(to, 2 * operands.len());
    all.chunks(2).map(|w| u64::from(w[0]) | u64::from(w[1]) << 32).collect()
}

/// Compares an instruction with a function, operand by operand.
#[track_caller]
pub fn compare(instructions: &str, result: &str, operands: &[[u64; 3]], expected: impl Fn([u64; 3]) -> u64) {
    for (&operands, found) in operands.iter().zip(apply(instructions, result, operands)) {
        let expected = expected(operands);
        assert!(found == expected, "{instructions} of {operands:x?}: {found:#x} instead of {expected:#x}");
    }
}

/// All triples of some interesting values, and as many random ones.
pub fn triples(interesting: &[u64], random: usize) -> Vec<[u64; 3]> {
    let mut all = Vec::new();
    for &a in interesting {
        for &b in interesting {
            for &c in interesting {
                all.push([a, b, c]);
            }
        }
    }
    let mut source = Random(3);
    all.extend((0..random).map(|_| [source.bits(), source.bits(), source.bits()]));
    all
}
