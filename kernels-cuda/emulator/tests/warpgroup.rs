//! `wgmma` and the copy engine against the layouts that the ISA's text gives.

mod common;

use common::{Device, Random, bf16, f16, halves, words};
use tubelet_ptx_emulator::{Launch, Module, Swizzle, TensorMap};

const SHARED: usize = 48 << 10;
const SWIZZLES: [(Swizzle, u64); 4] = [(Swizzle::None, 0), (Swizzle::B128, 1), (Swizzle::B64, 2), (Swizzle::B32, 3)];

/// Where the bits of an element lie: `Swizzle<bits, 4, 3>` of CuTe, on bytes.
fn permuted(offset: usize, swizzle: Swizzle) -> usize {
    let bits =
        [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128].iter().position(|s| *s == swizzle).expect("one of four");
    let mask = ((1 << bits) - 1) << 7;
    offset ^ (offset & mask) >> 3
}

/// An operand in shared memory: `lines` rows of A or columns of B, 16 deep.
struct Operand {
    start: usize,
    leading: usize,
    stride: usize,
    swizzle: (Swizzle, u64),
    across: bool,
}

impl Operand {
    /// Packed as tightly as the canonical layouts allow.
    fn new(start: usize, lines: usize, swizzle: (Swizzle, u64), across: bool) -> Operand {
        let width = swizzle.0.width() as usize;
        let (leading, stride) = match (swizzle.0, across) {
            // Core matrices of 128 bytes: all of one half of the depth, then the other; or all of eight of depth.
            (Swizzle::None, false) => (lines / 8 * 128, 128),
            (Swizzle::None, true) => (lines / 8 * 128, 128),
            (_, false) => (16, 8 * width),
            (_, true) => (2 * 8 * width, 8 * width),
        };
        Operand { start, leading, stride, swizzle, across }
    }

    fn descriptor(&self) -> u64 {
        (self.start as u64 >> 4) | (self.leading as u64 >> 4) << 16 | (self.stride as u64 >> 4) << 32 | self.swizzle.1 << 62
    }

    /// ((8, n), (8, 2)) and ((8, w, m), (8, k)) of the ISA's canonical layouts, in elements of two bytes.
    fn offset(&self, line: usize, k: usize) -> usize {
        let width = self.swizzle.0.width() as usize;
        let plain = match (self.swizzle.0, self.across) {
            (Swizzle::None, false) => line % 8 * 16 + line / 8 * self.stride + k % 8 * 2 + k / 8 * self.leading,
            (_, false) => line % 8 * width + line / 8 * self.stride + k * 2,
            (Swizzle::None, true) => line % 8 * 2 + line / 8 * self.stride + k % 8 * 16 + k / 8 * self.leading,
            (_, true) => {
                let side = width / 2;
                line % side * 2 + line / side * self.leading + k % 8 * width + k / 8 * self.stride
            }
        };
        permuted(self.start + plain, self.swizzle.0)
    }

    fn place(&self, image: &mut [u8], lines: &[[u16; 16]]) {
        for (line, elements) in lines.iter().enumerate() {
            for (k, element) in elements.iter().enumerate() {
                let at = self.offset(line, k);
                image[at..at + 2].copy_from_slice(&element.to_le_bytes());
            }
        }
    }
}

/// One warpgroup fills shared memory with an image and multiplies twice: without and with the sums before.
fn program(columns: usize, ty: &str, a: Option<bool>, b: bool) -> String {
    let sums: Vec<String> = (0..columns / 2).map(|n| format!("%f{n}")).collect();
    let d = format!("{{{}}}", sums.join(", "));
    let flags = |a: bool, b: bool| format!("1, 1, {}{}", if a { "1, " } else { "0, " }, u8::from(b));
    let product = |p: &str| match a {
        Some(across) => {
            format!("wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{ty}.{ty} {d}, %da, %db, {p}, {};", flags(across, b))
        }
        None => format!(
            "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.{ty}.{ty} {d}, {{%a0, %a1, %a2, %a3}}, %db, {p}, 1, 1, {};",
            u8::from(b)
        ),
    };
    let stores: String = (0..columns / 2).map(|n| format!("st.global.f32 [%to+{}], %f{n};\n", n * 512)).collect();
    format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 s[];
        .visible .entry k(.param .u64 image, .param .u64 registers, .param .u64 to, .param .u64 da, .param .u64 db) {{
        .reg .b32 %t, %i, %v, %s, %a<4>; .reg .b64 %from, %to, %at, %da, %db; .reg .f32 %f<128>; .reg .pred %p;
        ld.param.u64 %from, [image]; mov.u32 %t, %tid.x; mov.u32 %i, %t;
        $fill: mul.wide.u32 %at, %i, 4; add.s64 %at, %at, %from; ld.global.u32 %v, [%at]; shl.b32 %s, %i, 2; st.shared.u32 [%s], %v;
        add.u32 %i, %i, 128; setp.lt.u32 %p, %i, {};
        @%p bra $fill;
        ld.param.u64 %from, [registers]; mul.wide.u32 %at, %t, 16; add.s64 %at, %at, %from; ld.global.v4.u32 {{%a0, %a1, %a2, %a3}}, [%at];
        ld.param.u64 %da, [da]; ld.param.u64 %db, [db];
        fence.proxy.async.shared::cta; bar.sync 0;
        wgmma.fence.sync.aligned; setp.ne.b32 %p, 0, 0;
        {} setp.eq.b32 %p, 0, 0; {}
        wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
        ld.param.u64 %to, [to]; mul.wide.u32 %at, %t, 4; add.s64 %to, %to, %at;
        {stores} ret; }}",
        SHARED / 4,
        product("%p"),
        product("%p"),
    )
}

/// Small integers: every product and sum is exact in any order.
fn small(random: &mut Random, lines: usize) -> Vec<[f32; 16]> {
    (0..lines).map(|_| std::array::from_fn(|_| (random.bits() % 17) as f32 - 8.0)).collect()
}

fn check(columns: usize, half: bool, a: Option<Operand>, b: Operand) {
    let (ty, to): (_, fn(f32) -> u16) = if half { ("f16", f16) } else { ("bf16", bf16) };
    let mut random = Random(columns as u64);
    let (left, right) = (small(&mut random, 64), small(&mut random, columns));
    let bits = |lines: &[[f32; 16]]| -> Vec<[u16; 16]> { lines.iter().map(|line| line.map(to)).collect() };
    let mut image = vec![0; SHARED];
    b.place(&mut image, &bits(&right));
    if let Some(a) = &a {
        a.place(&mut image, &bits(&left));
    }
    // The registers of an m16n8k16: rows by fours of lanes, pairs of depth.
    let pair = |row: usize, k: usize| u32::from(to(left[row][k])) | u32::from(to(left[row][k + 1])) << 16;
    let fragments: Vec<u32> = (0..128)
        .flat_map(|t| {
            let (row, k) = (t / 32 * 16 + t % 32 / 4, t % 4 * 2);
            [pair(row, k), pair(row + 8, k), pair(row, k + 8), pair(row + 8, k + 8)]
        })
        .collect();
    let text = program(columns, ty, a.as_ref().map(|a| a.across), b.across);
    let module = Module::parse(&text).unwrap_or_else(|fault| panic!("{fault}"));
    let device = Device::new(1);
    let (from, registers, out) = (device.upload(&image), device.upload(&words(&fragments)), device.empty(512 * columns / 2));
    let descriptors = [a.as_ref().map_or(0, Operand::descriptor), b.descriptor()];
    let parameters = [from, registers, out, descriptors[0], descriptors[1]].map(u64::to_le_bytes);
    let parameters: Vec<&[u8]> = parameters.iter().map(|p| &p[..]).collect();
    let launch = Launch { grid: [1, 1, 1], block: [128, 1, 1], dynamic_shared: SHARED as u32 };
    let counters = device.emulator.launch(&module, "k", launch, &parameters).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(counters.tensor, 8);
    let found = device.floats(out, 128 * columns / 2);
    for t in 0..128 {
        for n in 0..columns / 2 {
            let (row, column) = (t / 32 * 16 + t % 32 / 4 + n / 2 % 2 * 8, n / 4 * 8 + t % 4 * 2 + n % 2);
            let sum: f32 = (0..16).map(|k| left[row][k] * right[column][k]).sum();
            assert_eq!(found[n * 128 + t], 2.0 * sum, "{ty} {columns}, {:?} {}: {row}, {column}", b.swizzle.0, b.across);
        }
    }
}

#[test]
fn operands_along_the_depth_in_every_swizzle() {
    for swizzle in SWIZZLES {
        for columns in [8, 64, 136, 256] {
            let b = Operand::new(16 << 10, columns, swizzle, false);
            check(columns, columns == 64, Some(Operand::new(0, 64, swizzle, false)), b);
        }
    }
}

#[test]
fn operands_across_the_depth_in_every_swizzle() {
    for swizzle in SWIZZLES {
        for columns in [64, 128, 192] {
            let b = Operand::new(16 << 10, columns, swizzle, true);
            check(columns, columns == 128, Some(Operand::new(0, 64, swizzle, columns == 64)), b);
        }
    }
}

#[test]
fn rows_in_registers() {
    for (columns, half) in [(64, false), (80, true), (256, false)] {
        check(columns, half, None, Operand::new(0, columns, SWIZZLES[1], false));
    }
    check(128, false, None, Operand::new(0, 128, SWIZZLES[1], true));
}

#[test]
fn steps_along_the_depth_of_a_swizzled_tile() {
    // The third 16 of 64 elements of depth: 64 bytes further, in rows of 128.
    let step = |start: usize, lines: usize| Operand { start: start + 64, ..Operand::new(start, lines, SWIZZLES[1], false) };
    check(64, false, Some(step(0, 64)), step(16 << 10, 64));
}

/// Copies one tile of a tensor to shared memory and reads it back in the order it lies there.
fn through_tile(device: &Device, map: &TensorMap, at: &[i32], bytes: usize) -> Vec<u8> {
    let coordinates: Vec<String> = (0..at.len()).map(|n| format!("%c{n}")).collect();
    let (rank, list) = (at.len(), coordinates.join(", "));
    let sets: String = at.iter().enumerate().map(|(n, c)| format!("mov.s32 %c{n}, {c};")).collect();
    let text = format!(
        ".version 8.4\n.target sm_90a\n.address_size 64\n.extern .shared .align 1024 .b8 s[];
        .visible .entry k(.param .align 64 .b8 map[128], .param .u64 to) {{
        .reg .b32 %t, %v, %m, %s, %c<5>; .reg .b64 %map, %to, %at; .reg .pred %p, %first;
        .shared .align 8 .b8 ready[8];
        mov.u32 %t, %tid.x; mov.u32 %m, ready; mov.u32 %s, s; setp.eq.u32 %first, %t, 0; mov.b64 %map, map; cvta.param.u64 %map, %map; {sets}
        @%first mbarrier.init.shared::cta.b64 [%m], 1; @%first fence.mbarrier_init.release.cluster; bar.sync 0;
        @%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%m], {bytes};
        @%first cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%s], [%map, {{{list}}}], [%m];
        $wait: mbarrier.try_wait.parity.shared::cta.b64 %p, [%m], 0; @!%p bra $wait;
        ld.param.u64 %to, [to]; mul.wide.u32 %at, %t, 4; add.s64 %to, %to, %at;
        $copy: shl.b32 %v, %t, 2; setp.ge.u32 %p, %v, {bytes}; @%p bra $done;
        add.u32 %v, %v, %s; ld.shared.u32 %v, [%v]; st.global.u32 [%to], %v; add.u32 %t, %t, 32; add.s64 %to, %to, 128; bra $copy;
        $done: ret; }}",
    );
    let module = Module::parse(&text).unwrap_or_else(|fault| panic!("{fault}"));
    let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], dynamic_shared: bytes as u32 };
    let map: Vec<u8> = map.encode().expect("a legal map").iter().flat_map(|w| w.to_le_bytes()).collect();
    let out = device.empty(bytes);
    let done = device.emulator.launch(&module, "k", launch, &[&map, &out.to_le_bytes()]);
    done.unwrap_or_else(|fault| panic!("{fault}"));
    device.bytes(out, bytes)
}

#[test]
fn tiles_are_permuted_and_filled_with_zeros() {
    // A tensor 3 x 20 x 40 whose rows are 48 apart; element (z, y, x) is its number.
    let element = |z: usize, y: usize, x: usize| (1 + z * 800 + y * 40 + x) as u16;
    let mut image = vec![0u16; 3 * 24 * 48];
    for (z, y, x) in (0..3).flat_map(|z| (0..20).flat_map(move |y| (0..40).map(move |x| (z, y, x)))) {
        image[(z * 24 + y) * 48 + x] = element(z, y, x);
    }
    let device = Device::new(1);
    let address = device.upload(&halves(&image));
    for (swizzle, _) in SWIZZLES {
        let side = if swizzle == Swizzle::None { 24 } else { swizzle.width() / 2 };
        let map = TensorMap {
            address,
            element: 2,
            sizes: vec![40, 20, 3],
            strides: vec![96, 24 * 96],
            tile: vec![side, 5, 2],
            swizzle,
        };
        for at in [[0, 0, 0], [8, 3, 1], [-3, -2, 0], [33, 17, 2], [40, 0, 0], [0, 0, -1]] {
            let bytes = side as usize * 5 * 2 * 2;
            let found = through_tile(&device, &map, &at, bytes);
            for (z, y, x) in (0..2).flat_map(|z| (0..5).flat_map(move |y| (0..side as usize).map(move |x| (z, y, x)))) {
                let [gx, gy, gz] = [at[0] + x as i32, at[1] + y as i32, at[2] + z as i32];
                let inside = (0..40).contains(&gx) && (0..20).contains(&gy) && (0..3).contains(&gz);
                let expected = if inside { element(gz as usize, gy as usize, gx as usize) } else { 0 };
                let lies = permuted(((z * 5 + y) * side as usize + x) * 2, swizzle);
                let value = u16::from_le_bytes([found[lies], found[lies + 1]]);
                assert_eq!(value, expected, "{swizzle:?} at {at:?}: {x}, {y}, {z}");
            }
        }
    }
}
