//! Small kernels as a compiler writes them, from text to results.

mod common;

use common::{Device, floats};
use tubelet_ptx_emulator::{Launch, Module};

#[test]
fn a_sum_of_two_vectors() {
    let module = Module::parse(include_str!("ptx/add.ptx")).expect("add.ptx is PTX");
    let device = Device::new(2);
    let n = 1000u32;
    let a: Vec<f32> = (0..n).map(|i| i as f32 * 0.5).collect();
    let b: Vec<f32> = (0..n).map(|i| 7.0 - i as f32).collect();
    let (pa, pb, pc) = (device.upload(&floats(&a)), device.upload(&floats(&b)), device.empty(4 * n as usize));
    let launch = Launch { grid: [n.div_ceil(128), 1, 1], block: [128, 1, 1], dynamic_shared: 0 };
    let parameters = [&pa.to_le_bytes()[..], &pb.to_le_bytes(), &pc.to_le_bytes(), &n.to_le_bytes()];
    let counters = device.emulator.launch(&module, "add", launch, &parameters).expect("no fault");
    let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
    assert_eq!(device.floats(pc, n as usize), expected);
    assert_eq!(counters.blocks, 8);
    assert_eq!(counters.global_bytes, 3 * 4 * u64::from(n));
    assert_eq!(counters.global_transactions, 3 * 4 * u64::from(n) / 32);
}

#[test]
fn softmax_of_rows_by_shuffles() {
    let module = Module::parse(include_str!("ptx/softmax.ptx")).expect("softmax.ptx is PTX");
    let device = Device::new(2);
    let (rows, columns) = (5u32, 77u32);
    let x: Vec<f32> = (0..rows * columns).map(|i| ((i * 37) % 101) as f32 * 0.07 - 3.0).collect();
    let (px, py) = (device.upload(&floats(&x)), device.empty(x.len() * 4));
    let launch = Launch { grid: [rows, 1, 1], block: [128, 1, 1], dynamic_shared: 0 };
    let parameters = [&px.to_le_bytes()[..], &py.to_le_bytes(), &columns.to_le_bytes()];
    let counters = device.emulator.launch(&module, "softmax", launch, &parameters).expect("no fault");
    for (row, found) in x.chunks(columns as usize).zip(device.floats(py, x.len()).chunks(columns as usize)) {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all: Vec<f64> = row.iter().map(|v| f64::from(v - most).exp()).collect();
        let sum: f64 = all.iter().sum();
        for (expected, &found) in all.iter().map(|v| v / sum).zip(found) {
            assert!((expected - f64::from(found)).abs() < 1e-6, "{expected} {found}");
        }
    }
    assert!(counters.barriers >= 2 * u64::from(rows), "{counters}");
}
