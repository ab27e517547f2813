//! Matrix fragments against plain products.

mod common;

use common::{Device, Random, bf16, f16, from_bf16, from_f16, halves, kernel, words};
use tubelet_ptx_emulator::{Counters, Launch, Module};

/// `a b^T` in f64, and the sum of the products' magnitudes, which bounds the rounding errors.
fn plain(a: &[f32], b: &[f32], m: usize, n: usize, k: usize) -> Vec<(f64, f64)> {
    let mut c = Vec::new();
    for row in 0..m {
        for column in 0..n {
            let terms = (0..k).map(|i| f64::from(a[row * k + i]) * f64::from(b[column * k + i]));
            c.push((terms.clone().sum(), terms.map(f64::abs).sum()));
        }
    }
    c
}

fn check(found: &[f32], expected: &[(f64, f64)], k: usize) {
    for (at, (&found, &(sum, magnitude))) in found.iter().zip(expected).enumerate() {
        // Each of k sums rounds once, relative to at most the sum of magnitudes.
        let bound = k as f64 * f64::from(f32::EPSILON) / 2.0 * magnitude;
        assert!((f64::from(found) - sum).abs() <= bound, "element {at}: {found} instead of {sum}");
    }
}

fn gemm(name: &str, to: fn(f32) -> u16, from: fn(u16) -> f32, threads: usize) -> (Vec<f32>, Counters) {
    let (m, n, k) = (100, 72, 88);
    let mut random = Random(1);
    let mut matrix = |count: usize| -> Vec<u16> { (0..count).map(|_| to(random.unit())).collect() };
    let (a, b) = (matrix(m * k), matrix(n * k));
    let device = Device::new(threads);
    let module = Module::parse(include_str!("ptx/gemm.ptx")).expect("gemm.ptx is PTX");
    let (pa, pb, pc) = (device.upload(&halves(&a)), device.upload(&halves(&b)), device.empty(4 * m * n));
    let sizes = [m as u32, n as u32, k as u32].map(u32::to_le_bytes);
    let parameters = [&pa.to_le_bytes()[..], &pb.to_le_bytes(), &pc.to_le_bytes(), &sizes[0], &sizes[1], &sizes[2]];
    let grid = [n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1];
    let launch = Launch { grid, block: [128, 1, 1], dynamic_shared: 3 * 2 * 64 * 40 * 2 };
    let counters = device.emulator.launch(&module, name, launch, &parameters).expect("no fault");
    let found = device.floats(pc, m * n);
    let values = |bits: &[u16]| -> Vec<f32> { bits.iter().map(|&b| from(b)).collect() };
    check(&found, &plain(&values(&a), &values(&b), m, n, k), k);
    (found, counters)
}

#[test]
fn a_pipelined_product_of_tensor_cores() {
    for (name, to, from) in [("gemm_f16", f16 as fn(f32) -> u16, from_f16 as fn(u16) -> f32), ("gemm_bf16", bf16, from_bf16)] {
        let (one, counters) = gemm(name, to, from, 1);
        let (three, same) = gemm(name, to, from, 3);
        assert_eq!(one, three);
        assert_eq!(counters, same);
        // 2 x 2 blocks of four warps, three steps of two k-halves, eight products each.
        assert_eq!(counters.tensor, 4 * 4 * 3 * 2 * 8);
    }
}

/// Runs one mma, its fragments register after register; returns D by register and lane.
fn mma(opcode: &str, counts: [usize; 3], registers: &[u32]) -> impl Fn(usize, usize) -> u32 + use<> {
    let [na, nb, nc] = counts;
    let total = na + nb + nc;
    let names: Vec<String> = (0..total).map(|n| format!("%r{n}")).collect();
    let list = |from: usize, count: usize| format!("{{{}}}", names[from..from + count].join(", "));
    let mut body = String::from(".reg .b32 %r<24>; .reg .b32 %t<3>; .reg .b64 %a<4>;\n");
    body += "ld.param.u64 %a0, [p0]; ld.param.u64 %a1, [p1]; mov.u32 %t0, %tid.x;\n";
    body += "mul.wide.u32 %a2, %t0, 4; add.s64 %a0, %a0, %a2; add.s64 %a1, %a1, %a2;\n";
    for n in 0..total {
        body += &format!("ld.global.u32 %r{n}, [%a0+{}];\n", 128 * n);
    }
    let (a, b, c) = (list(0, na), list(na, nb), list(na + nb, nc));
    body += &format!("{opcode} {c}, {a}, {b}, {c};\n");
    for n in 0..nc {
        body += &format!("st.global.u32 [%a1+{}], %r{};\n", 128 * n, na + nb + n);
    }
    let device = Device::new(1);
    let module = Module::parse(&kernel(2, &body)).expect("it is PTX");
    let (from, to) = (device.upload(&words(registers)), device.empty(128 * nc));
    let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], dynamic_shared: 0 };
    device.emulator.launch(&module, "k", launch, &[&from.to_le_bytes(), &to.to_le_bytes()]).expect("no fault");
    let d = device.words(to, 32 * nc);
    move |register, lane| d[32 * register + lane]
}

/// The layout of the ISA's figures, element by element: A row-major 16 x k, B as its transpose 8 x k, C 16 x 8.
struct Layout {
    /// Elements in one register.
    packed: usize,
    k: usize,
}

impl Layout {
    /// (row, column) of element `e` of register `n` of a lane of A.
    fn a(&self, lane: usize, n: usize, e: usize) -> (usize, usize) {
        let half = 4 * self.packed;
        (lane / 4 + 8 * (n % 2), lane % 4 * self.packed + e + half * (n / 2))
    }

    /// (column, row) of element `e` of register `n` of a lane of B.
    fn b(&self, lane: usize, n: usize, e: usize) -> (usize, usize) {
        (lane / 4, lane % 4 * self.packed + e + 4 * self.packed * n)
    }

    fn pack(&self, element: impl Fn(usize) -> u32) -> u32 {
        (0..self.packed).fold(0, |word, e| word | element(e) << (16 * e))
    }
}

/// An element type: its bits, and what they mean.
struct Element {
    to: fn(f32) -> u32,
    from: fn(u32) -> f32,
}

fn check_shape(opcode: &str, layout: &Layout, element: &Element, half_sums: bool) {
    let k = layout.k;
    let mut random = Random(2);
    let mut matrix = |count: usize| -> Vec<u32> { (0..count).map(|_| (element.to)(random.unit())).collect() };
    let (a, b) = (matrix(16 * k), matrix(8 * k));
    let (na, nb, nc) = (16 * k / 32 / layout.packed, 8 * k / 32 / layout.packed, if half_sums { 2 } else { 4 });
    let c = |row: usize, column: usize| (row * 8 + column) as f32 / 64.0;
    let mut registers = Vec::new();
    for n in 0..na {
        registers.extend((0..32).map(|lane| {
            layout.pack(|e| {
                let (row, column) = layout.a(lane, n, e);
                a[row * k + column]
            })
        }));
    }
    for n in 0..nb {
        registers.extend((0..32).map(|lane| {
            layout.pack(|e| {
                let (column, row) = layout.b(lane, n, e);
                b[column * k + row]
            })
        }));
    }
    for n in 0..nc {
        registers.extend((0..32).map(|lane| {
            let column = lane % 4 * 2;
            match half_sums {
                false => c(lane / 4 + 8 * (n / 2), column + n % 2).to_bits(),
                true => {
                    let row = lane / 4 + 8 * n;
                    u32::from(f16(c(row, column))) | u32::from(f16(c(row, column + 1))) << 16
                }
            }
        }));
    }
    let d = mma(opcode, [na, nb, nc], &registers);
    let values = |bits: &[u32]| -> Vec<f32> { bits.iter().map(|&b| (element.from)(b)).collect() };
    let expected = plain(&values(&a), &values(&b), 16, 8, k);
    for lane in 0..32 {
        for e in 0..4 {
            let (row, column) = (lane / 4 + 8 * (e / 2), lane % 4 * 2 + e % 2);
            let (found, error) = match half_sums {
                false => (f32::from_bits(d(e, lane)), 1e-6),
                true => (from_f16((d(e / 2, lane) >> (16 * (e % 2))) as u16), 1e-3),
            };
            let (sum, magnitude) = expected[row * 8 + column];
            let (sum, magnitude) = (sum + f64::from(c(row, column)), magnitude + 2.0);
            assert!((f64::from(found) - sum).abs() <= error * magnitude, "{opcode}: {found} instead of {sum} at {row}, {column}");
        }
    }
}

#[test]
fn every_shape_of_mma_has_the_layout_of_the_isa() {
    let half = Element { to: |v| f16(v).into(), from: |b| from_f16(b as u16) };
    let brain = Element { to: |v| bf16(v).into(), from: |b| from_bf16(b as u16) };
    let tf32 = Element { to: |v| v.to_bits() & 0xffff_e000, from: f32::from_bits };
    for k in [8, 16] {
        let layout = Layout { packed: 2, k };
        check_shape(&format!("mma.sync.aligned.m16n8k{k}.row.col.f32.f16.f16.f32"), &layout, &half, false);
        check_shape(&format!("mma.sync.aligned.m16n8k{k}.row.col.f16.f16.f16.f16"), &layout, &half, true);
        check_shape(&format!("mma.sync.aligned.m16n8k{k}.row.col.f32.bf16.bf16.f32"), &layout, &brain, false);
    }
    for k in [4, 8] {
        let layout = Layout { packed: 1, k };
        check_shape(&format!("mma.sync.aligned.m16n8k{k}.row.col.f32.tf32.tf32.f32"), &layout, &tf32, false);
    }
}

/// Fills a matrix with its indices in shared memory, runs `middle` on row addresses `%q` and registers, returns what `%r0` to `%r3` hold.
fn through_shared(middle: &str) -> impl Fn(usize, usize) -> u32 + use<> {
    let body = format!(
        ".reg .b32 %r<4>; .reg .b32 %t<4>; .reg .b32 %q; .reg .b64 %a<4>; .reg .b16 %h; .shared .align 16 .b8 tile[512];
        ld.param.u64 %a0, [p0]; mov.u32 %t0, %tid.x; mul.wide.u32 %a1, %t0, 4; add.s64 %a0, %a0, %a1;
        mov.u32 %t1, tile; shl.b32 %t2, %t0, 4; add.s32 %q, %t1, %t2;
        {middle}
        st.global.u32 [%a0], %r0; st.global.u32 [%a0+128], %r1; st.global.u32 [%a0+256], %r2; st.global.u32 [%a0+384], %r3;"
    );
    let device = Device::new(1);
    let module = Module::parse(&kernel(1, &body)).expect("it is PTX");
    let to = device.empty(512);
    let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], dynamic_shared: 0 };
    device.emulator.launch(&module, "k", launch, &[&to.to_le_bytes()]).expect("no fault");
    let found = device.words(to, 128);
    move |register, lane| found[32 * register + lane]
}

/// Row `r` of matrix `m`, column `c` holds `64 m + 8 r + c`: what a lane stores in its row.
const FILL: &str = "shl.b32 %t3, %t0, 3; add.s32 %r0, %t3, 0;
    mul.lo.s32 %r1, %r0, 65537; add.s32 %r0, %r1, 65536; add.s32 %r1, %r0, 131074; add.s32 %r2, %r1, 131074; add.s32 %r3, %r2, 131074;
    st.shared.v4.u32 [%q], {%r0, %r1, %r2, %r3};";

fn element(matrix: usize, row: usize, column: usize) -> u32 {
    (64 * matrix + 8 * row + column) as u32
}

#[test]
fn ldmatrix_deals_rows_or_columns() {
    let loaded = through_shared(&format!("{FILL} ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r0, %r1, %r2, %r3}}, [%q];"));
    let transposed =
        through_shared(&format!("{FILL} ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{%r0, %r1, %r2, %r3}}, [%q];"));
    for matrix in 0..4 {
        for lane in 0..32 {
            let (row, column) = (lane / 4, lane % 4 * 2);
            let expected = element(matrix, row, column) | element(matrix, row, column + 1) << 16;
            assert_eq!(loaded(matrix, lane), expected);
            let expected = element(matrix, column, row) | element(matrix, column + 1, row) << 16;
            assert_eq!(transposed(matrix, lane), expected);
        }
    }
    let two = through_shared(&format!("{FILL} ldmatrix.sync.aligned.m8n8.x2.shared.b16 {{%r1, %r0}}, [%q];"));
    for lane in 0..32 {
        assert_eq!((two(1, lane), two(0, lane)), (loaded(0, lane), loaded(1, lane)));
    }
}

#[test]
fn stmatrix_undoes_ldmatrix() {
    for trans in ["", ".trans"] {
        let back = through_shared(&format!(
            "{FILL} ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r0, %r1, %r2, %r3}}, [%q];
             bar.warp.sync -1;
             stmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 [%q], {{%r0, %r1, %r2, %r3}};
             ld.shared.v4.u32 {{%r0, %r1, %r2, %r3}}, [%q];"
        ));
        for lane in 0..32 {
            for word in 0..4 {
                let at = element(lane / 8, lane % 8, 2 * word);
                assert_eq!(back(word, lane), at | (at + 1) << 16, "{trans}");
            }
        }
    }
}
