//! The kernels that Hopper has of its own, on the emulator as that chip: which shapes they serve, and that what they compute is right.
#![cfg(feature = "emulator")]

use std::collections::BTreeMap;

use tubelet_cuda::emulated::{self, Counters, Options};
use tubelet_engine::{
    DType, Device, Result, Tensor,
    ops::{
        attention::attention_with_lse,
        gemm::{Gemm, gemm},
    },
};

/// A Hopper with so many threads to share the blocks.
fn hopper(threads: usize) -> Device {
    emulated::hopper(Options { threads, ..Options::default() })
}

/// Numbers between -1 and 1 that look random.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    let number = |i: usize| ((i + seed * 7919).wrapping_mul(2_654_435_761) >> 9) % 2048;
    (0..count).map(|i| number(i) as f32 / 1024.0 - 1.0).collect()
}

fn tensor(device: &Device, dtype: DType, seed: usize, shape: &[usize]) -> Result<Tensor> {
    Tensor::from_f32(device, dtype, shape, &numbers(seed, shape.iter().product()))
}

fn used(device: &Device) -> BTreeMap<String, Counters> {
    emulated::take_counters(device).unwrap_or_default()
}

#[test]
fn shapes_choose_the_kernel() -> Result<()> {
    let cases = [
        // One round of narrow tiles; wide ones; parts along the depth.
        ((200, 264, 72, DType::BF16), "gemm_bf16_hopper_128"),
        ((1480, 1416, 72, DType::F16), "gemm_f16_hopper_256"),
        ((64, 64, 1096, DType::F16), "gemm_finish_f16"),
        // Rows that the copy engine cannot read, tiles that would be mostly empty.
        ((200, 264, 71, DType::BF16), "gemm_bf16_small"),
        ((40, 264, 72, DType::BF16), "gemm_bf16_small"),
        ((200, 264, 72, DType::F32), "gemm_f32_small"),
    ];
    let device = hopper(2);
    for ((m, n, k, dtype), kernel) in cases {
        let (x, weight) = (tensor(&device, dtype, 1, &[m, k])?, tensor(&device, dtype, 2, &[n, k])?);
        gemm(Gemm { alpha: 1.0, function: None }, &x, &weight, None, None)?;
        let used = used(&device);
        assert!(used.contains_key(kernel), "{m} x {n} x {k}, {dtype}: {:?}", used.keys());
    }
    Ok(())
}

/// Queries, keys and values `[B, X, Y, heads, width]` along an axis, with another sequence beside each.
fn attend(device: &Device, dtype: DType, axis: usize, [rows, keys, heads, width]: [usize; 4]) -> Result<Vec<Vec<f64>>> {
    let shape = |along: usize| if axis == 1 { [1, along, 2, heads, width] } else { [2, 1, along, heads, width] };
    let q = tensor(device, dtype, 3, &shape(rows))?;
    let (k, v) = (tensor(device, dtype, 4, &shape(keys))?, tensor(device, dtype, 5, &shape(keys))?);
    let [y, lse] = attention_with_lse((width as f32).sqrt().recip(), axis, &q, &k, &v)?;
    Ok(vec![y.to_f64_vec()?, lse.to_f64_vec()?])
}

#[test]
fn attention_of_wide_heads_is_the_references() -> Result<()> {
    for (dtype, axis, sizes) in [
        (DType::BF16, 1, [130, 197, 1, 64]),
        (DType::F16, 2, [64, 300, 1, 80]),
        (DType::BF16, 2, [129, 64, 1, 88]),
        (DType::F16, 1, [70, 129, 2, 128]),
        (DType::BF16, 1, [64, 65, 1, 72]),
    ] {
        let device = hopper(2);
        let (found, expected) = (attend(&device, dtype, axis, sizes)?, attend(&Device::reference(), dtype, axis, sizes)?);
        let used = used(&device);
        assert!(used.keys().any(|kernel| kernel.contains("hopper")), "{sizes:?}: {:?}", used.keys());
        // Weights carry twice the digits of a half number, so that the result rounds once: half a step of a number below 1, and as much for
        // scores that are sums of f32 products.
        let step = if dtype == DType::BF16 { 2f64.powi(-8) } else { 2f64.powi(-11) };
        for (what, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let bound = if what == 0 { step } else { 1e-4 };
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off <= bound && found.len() == expected.len(), "{dtype} {sizes:?}: off by {off}, {bound} is allowed");
        }
    }
    Ok(())
}

#[test]
fn bits_do_not_depend_on_the_number_of_multiprocessors() -> Result<()> {
    // On the emulator, those are its threads: blocks that stay go through other tiles.
    let product = |threads: usize| -> Result<Vec<f64>> {
        let device = hopper(threads);
        let (x, weight) = (tensor(&device, DType::BF16, 1, &[300, 584])?, tensor(&device, DType::BF16, 2, &[200, 584])?);
        gemm(Gemm { alpha: 0.37, function: None }, &x, &weight, None, None)?.to_f64_vec()
    };
    let first = product(1)?;
    assert!(first == product(3)? && first == product(64)?);
    Ok(())
}
