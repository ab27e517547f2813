//! The kernels that Hopper has of its own, on the emulator as that chip: which shapes they serve, and that what they compute is right.
#![cfg(feature = "emulator")]

use std::collections::BTreeMap;

use tubelet_cuda::emulated::{self, Counters, Options};
use tubelet_engine::{
    DType, Device, Result, Tensor,
    ops::{
        Function,
        attention::attention_with_lse,
        attention_backward::{AttentionBackward, attention_backward},
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
        // One round of narrow tiles; parts along the depth. Wide tiles take longer, and are among those below.
        ((200, 264, 72, DType::BF16), "gemm_bf16_hopper_128"),
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

/// `[batches, rows, columns]` of small integers, laid out with the rows side by side or the columns.
fn integers(device: &Device, dtype: DType, seed: usize, [batches, rows, columns]: [usize; 3], across: bool) -> Result<Tensor> {
    let data: Vec<f32> = numbers(seed, batches * rows * columns).iter().map(|x| (x * 4.0).round()).collect();
    let stored = if across { [batches, columns, rows] } else { [batches, rows, columns] };
    let x = Tensor::from_f32(device, dtype, &stored, &data)?;
    if across { x.permute(&[0, 2, 1]) } else { Ok(x) }
}

#[test]
fn operands_along_and_across_the_depth() -> Result<()> {
    // Narrow tiles, parts of the depth, pairs of wide tiles; of the last pairs one tile is empty. Rows, columns and depth fill none.
    let (narrow, split) = ([2, 136, 72, 104], [1, 72, 136, 1104]);
    let device = hopper(2);
    for (dtype, [batches, m, n, k], [x_across, weight_across], kernel) in [
        (DType::BF16, narrow, [true, true], "gemm_bf16_hopper_128_across"),
        (DType::F16, narrow, [true, false], "gemm_f16_hopper_128_across_x"),
        (DType::F16, narrow, [false, true], "gemm_f16_hopper_128_across_weight"),
        (DType::BF16, split, [true, true], "gemm_finish_bf16"),
        (DType::BF16, [34, 200, 200, 72], [false, false], "gemm_bf16_hopper_256"),
        (DType::F16, [23, 296, 200, 72], [true, true], "gemm_f16_hopper_256_across"),
    ] {
        let run = |device: &Device| {
            let x = integers(device, dtype, 1, [batches, m, k], x_across)?;
            let weight = integers(device, dtype, 2, [batches, n, k], weight_across)?;
            let (bias, residual) =
                (integers(device, dtype, 3, [1, 1, n], false)?, integers(device, dtype, 4, [batches, m, n], false)?);
            gemm(Gemm { alpha: 0.5, function: None }, &x, &weight, Some(&bias.reshape(&[n])?), Some(&residual))?.to_f64_vec()
        };
        used(&device);
        let (found, expected) = (run(&device)?, run(&Device::reference())?);
        let used = used(&device);
        assert!(used.contains_key(kernel), "{kernel}: {:?}", used.keys());
        assert!(found == expected, "{kernel}: sums of integers are exact");
    }
    Ok(())
}

/// A residual `[batches, rows, columns]`: as it is, columns of wider rows, one for all batches, one row for all, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Residual {
    Plain,
    Wider,
    Shared,
    Repeated,
    Absent,
}

fn residual(device: &Device, dtype: DType, kind: Residual, [batches, rows, columns]: [usize; 3]) -> Result<Option<Tensor>> {
    let shape = [batches, rows, columns];
    let x = match kind {
        Residual::Plain => integers(device, dtype, 4, shape, false)?,
        Residual::Wider => integers(device, dtype, 4, [batches, rows, columns + 16], false)?.narrow(2, 8, columns)?,
        Residual::Shared => integers(device, dtype, 4, [1, rows, columns], false)?.broadcast_to(&shape)?,
        Residual::Repeated => integers(device, dtype, 4, [batches, 1, columns], false)?.broadcast_to(&shape)?,
        Residual::Absent => return Ok(None),
    };
    Ok(Some(x))
}

#[test]
fn results_by_the_copy_engine_are_those_of_threads() -> Result<()> {
    use Residual::{Absent, Plain, Repeated, Shared, Wider};
    // Pieces of 64 x 64 that reach beyond the last row and column, or stand alone; rows of 16 bytes, and not.
    let cases = [
        (DType::BF16, [2, 136, 72, 104], None, Plain, true),
        (DType::F16, [3, 100, 200, 72], Some(Function::Relu), Shared, true),
        (DType::BF16, [1, 200, 136, 72], Some(Function::GeluErf), Absent, true),
        (DType::F16, [2, 65, 128, 64], Some(Function::GeluTanh), Wider, true),
        (DType::BF16, [1, 64, 264, 64], None, Absent, true),
        (DType::BF16, [2, 70, 72, 64], Some(Function::Relu), Repeated, false),
        (DType::F16, [2, 70, 75, 64], Some(Function::Relu), Plain, false),
    ];
    for (dtype, [batches, m, n, k], function, kind, moved) in cases {
        let device = hopper(2);
        // Bias that does not lie in pairs is read by threads that store.
        let run = |device: &Device, first: usize| {
            let (x, weight) =
                (integers(device, dtype, 1, [batches, m, k], false)?, integers(device, dtype, 2, [batches, n, k], false)?);
            let all = integers(device, dtype, 3, [1, 1, n + 1], false)?.reshape(&[n + 1])?.to_f32_vec()?;
            let shifted: Vec<f32> = (0..first + n).map(|i| if i < first { 0.0 } else { all[i - first] }).collect();
            let bias = Tensor::from_f32(device, dtype, &[first + n], &shifted)?.narrow(0, first, n)?;
            let residual = residual(device, dtype, kind, [batches, m, n])?;
            gemm(Gemm { alpha: 0.125, function }, &x, &weight, Some(&bias), residual.as_ref())?.to_f64_vec()
        };
        let what = format!("{batches} x {m} x {n} x {k}, {dtype}, {function:?}, {kind:?}");
        let counted = |first: usize| -> Result<(Vec<f64>, u64)> {
            used(&device);
            let y = run(&device, first)?;
            let used = used(&device);
            let kernel = used.get(&format!("gemm_{dtype}_hopper_128"));
            Ok((y, kernel.map_or(0, |counters| counters.global_requests)))
        };
        let ((engine, few), (threads, many)) = (counted(0)?, counted(1)?);
        assert!(many > 0 && (few < many) == moved, "{what}: {few} requests, {many} by threads");
        assert!(engine == threads, "{what}: the same sums, rounded once");
        if matches!(function, None | Some(Function::Relu)) {
            assert!(engine == run(&Device::reference(), 0)?, "{what}: sums of integers are exact");
        }
    }
    Ok(())
}

/// Attention of queries, keys and values `[B, X, Y, heads, width]` along an axis, with another sequence beside each.
struct Case {
    dtype: DType,
    axis: usize,
    /// Queries, keys, heads, width.
    sizes: [usize; 4],
    /// Where not 0, queries are integers around this number and keys around its opposite, so that scores are exact.
    apart: f32,
}

fn case(dtype: DType, axis: usize, sizes: [usize; 4]) -> Case {
    Case { dtype, axis, sizes, apart: 0.0 }
}

/// Attention and its gradients, and what they are in f64 of the same operands.
fn attend(device: &Device, case: &Case) -> Result<[Vec<Vec<f64>>; 2]> {
    let Case { dtype, axis, sizes: [rows, keys, heads, width], apart } = *case;
    let shape = |along: usize| if axis == 1 { [1, along, 2, heads, width] } else { [2, 1, along, heads, width] };
    let op = AttentionBackward { scale: (width as f32).sqrt().recip(), axis };
    let draw = |seed: usize, along: usize, around: f32| {
        let data = numbers(seed, shape(along).iter().product());
        let data: Vec<f32> = data.iter().map(|x| if around == 0.0 { *x } else { x.round() + around }).collect();
        Tensor::from_f32(device, dtype, &shape(along), &data)
    };
    let (q, k) = (draw(3, rows, apart)?, draw(4, keys, -apart)?);
    let (v, gradient) = (draw(5, keys, 0.0)?, draw(6, rows, 0.0)?);
    let reference = Device::reference();
    let exact = |x: &Tensor| x.to_device(&reference)?.cast(DType::F64);
    let exact_qkv = [&exact(&q)?, &exact(&k)?, &exact(&v)?];
    used(device);
    let [y, lse] = attention_with_lse(op.scale, axis, &q, &k, &v)?;
    let slopes = attention_backward(op, [&q, &k, &v], &y, &lse, &gradient)?;
    let [exact_y, exact_lse] = attention_with_lse(op.scale, axis, exact_qkv[0], exact_qkv[1], exact_qkv[2])?;
    let expected = attention_backward(op, exact_qkv, &exact(&y)?, &exact(&lse)?, &exact(&gradient)?)?;
    let numbers = |first: [&Tensor; 2], others: &[Tensor; 3]| {
        first.into_iter().chain(others).map(Tensor::to_f64_vec).collect::<Result<_>>()
    };
    Ok([numbers([&y, &lse], &slopes)?, numbers([&exact_y, &exact_lse], &expected)?])
}

/// That these kernels, and no others, have found what is to be found.
fn check_attention(device: &Device, case: &Case, kernels: &str) -> Result<()> {
    let [found, expected] = attend(device, case)?;
    let Case { dtype, sizes, .. } = *case;
    let used = used(device);
    assert!(used.keys().all(|kernel| kernel.contains(kernels)), "{dtype} {sizes:?}: {:?}", used.keys());
    for (what, (found, expected)) in ["y", "lse", "dq", "dk", "dv"].iter().zip(found.iter().zip(&expected)) {
        // Rounded once, if at all, from sums of terms that cancel, whose weights carry twice the digits of a half number.
        let step = if dtype == DType::BF16 { 2f64.powi(-8) } else { 2f64.powi(-11) };
        let step = if *what == "lse" { 0.0 } else { step };
        let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let near = |x: f64, y: f64| (x - y).abs() <= step * y.abs() + largest * 2f64.powi(-15);
        let far = found.iter().zip(expected).find(|&(&x, &y)| !near(x, y));
        assert!(far.is_none() && found.len() == expected.len(), "{dtype} {sizes:?}: {what}, found and expected: {far:?}");
    }
    Ok(())
}

#[test]
fn attention_of_wide_heads_is_the_references() -> Result<()> {
    let cases = [
        // Every stage is used again.
        case(DType::BF16, 1, [330, 261, 1, 64]),
        case(DType::F16, 2, [65, 150, 1, 80]),
        case(DType::BF16, 2, [129, 64, 1, 88]),
        case(DType::F16, 1, [70, 129, 1, 128]),
        case(DType::BF16, 1, [64, 65, 1, 72]),
        // Scores so far below 0 that weights of keys beyond the last would be infinite.
        Case { apart: 4.0, ..case(DType::BF16, 1, [65, 70, 1, 64]) },
    ];
    cases.iter().try_for_each(|case| check_attention(&hopper(2), case, "hopper"))
}

#[test]
fn attention_of_short_sequences_shares_tiles() -> Result<()> {
    let cases = [
        // Sixteen of four, seven of nine, three of seventeen, one of 33; other lengths on the other side; a whole tile.
        case(DType::BF16, 1, [4, 3, 9, 64]),
        case(DType::F16, 2, [9, 9, 5, 64]),
        case(DType::BF16, 2, [17, 17, 3, 64]),
        case(DType::F16, 1, [33, 33, 1, 40]),
        case(DType::BF16, 1, [13, 29, 2, 33]),
        case(DType::BF16, 2, [31, 7, 2, 64]),
        case(DType::F16, 2, [64, 64, 1, 64]),
    ];
    let ampere = emulated::device(Options { threads: 2, ..Options::default() });
    [hopper(2), ampere].iter().try_for_each(|device| cases.iter().try_for_each(|case| check_attention(device, case, "short")))
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
