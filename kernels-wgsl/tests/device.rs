//! The device itself: memory, errors, threads.

mod common;

use tubelet_engine::{
    Backend, DType, Device, Error, Function, Philox, Result, Tensor,
    ops::{
        attention::attention_with_lse,
        binary::{Operator, binary},
        conv3d::{Conv3d, conv3d},
        gemm::{Gemm, gemm},
        softmax::softmax,
        unary::unary,
    },
    samples::{self, Values},
};
use tubelet_wgsl::{Shader, Wgpu, WgpuOptions, adapters};

fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = Philox::new(seed);
    (0..n).map(|_| rng.normal()).collect()
}

fn tensor(device: &Device, seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_f32(device, DType::F32, shape, &numbers(seed, shape.iter().product())).expect("memory")
}

/// softmax(x W^T) summed over several products: enough launches to fill more than one submission.
fn work(device: &Device, seed: u64) -> Vec<f32> {
    let (mut x, weight) = (tensor(device, seed, &[20, 24]), tensor(device, seed + 1, &[24, 24]));
    for _ in 0..40 {
        let y = gemm(Gemm::default(), &x, &weight, None, None).and_then(|y| softmax(&y)).expect("a product");
        x = binary(Operator::Add, &x, &y).expect("a sum");
    }
    x.to_f32_vec().expect("a download")
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_helps() {
    let error = Wgpu::new(WgpuOptions { adapter: 99, ..Default::default() }).err().expect("no machine has so many").to_string();
    let help = if adapters().is_empty() { "install a Vulkan driver" } else { "no such adapter" };
    assert!(error.contains("wgpu:99") && error.contains(help), "{error}");
}

#[test]
fn memory_beyond_the_limit_is_refused_and_what_was_there_is_kept() {
    let Some(wgpu) = common::device(WgpuOptions { memory_limit: Some(1 << 16), ..Default::default() }) else { return };
    let device = Device::new(wgpu);
    let x = tensor(&device, 0, &[64, 64]);
    let error = Tensor::zeros(&device, DType::F32, &[1 << 14]).expect_err("more than the limit");
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!(x.to_f32_vec().expect("a download"), numbers(0, 64 * 64));
}

#[test]
fn a_tensor_larger_than_a_binding_is_refused_by_name() {
    let Some(wgpu) = common::device(WgpuOptions::default()) else { return };
    let error = Tensor::zeros(&Device::new(wgpu), DType::F32, &[1 << 30, 1 << 10]).expect_err("4 TiB").to_string();
    assert!(error.contains("this adapter binds at most"), "{error}");
}

#[test]
fn f64_is_refused_by_name() {
    let Some(wgpu) = common::device(WgpuOptions::default()) else { return };
    let x = Tensor::from_slice(&Device::new(wgpu), &[2], &[1.0f64, 2.0]).expect("memory has no type");
    let error = unary(Function::Exp, &x).expect_err("no kernel").to_string();
    assert!(error.contains("f64") && error.contains("wgpu:0"), "{error}");
}

#[test]
fn parts_that_are_not_words_are_uploaded_and_downloaded() {
    let Some(wgpu) = common::device(WgpuOptions::default()) else { return };
    let device = Device::new(wgpu);
    let backend = device.backend();
    for len in [1usize, 3, 4, 7, 9] {
        let buffer = backend.allocate(len).expect("memory");
        let mut expected: Vec<u8> = (0..len as u8).collect();
        backend.upload(&expected, &*buffer, 0).expect("an upload");
        for at in 0..len {
            expected[at] = 200 + at as u8;
            backend.upload(&expected[at..=at], &*buffer, at).expect("a part");
            let mut all = vec![0; len];
            backend.download(&*buffer, 0, &mut all).expect("a download");
            assert_eq!(all, expected);
            let mut part = vec![0; len - at];
            backend.download(&*buffer, at, &mut part).expect("a part");
            assert_eq!(part, expected[at..]);
        }
        assert!(backend.upload(&[1, 2], &*buffer, len - 1).is_err() && backend.download(&*buffer, len, &mut [0]).is_err());
    }
}

#[test]
fn a_tensor_of_another_device_is_refused() {
    let Some(first) = common::device(WgpuOptions::default()) else { return };
    let Some(second) = common::device(WgpuOptions::default()) else { return };
    let [first, second] = [first, second].map(Device::new);
    let result: Result<Tensor> = binary(Operator::Add, &tensor(&first, 0, &[3]), &tensor(&second, 0, &[3]));
    assert!(result.is_err());
}

#[test]
fn two_devices_at_once_and_threads_that_share_one_give_the_same_bits() {
    let Some(first) = common::device(WgpuOptions::default()) else { return };
    let Some(second) = common::device(WgpuOptions::default()) else { return };
    let devices = [first, second].map(Device::new);
    let expected: Vec<Vec<f32>> = (0..4).map(|seed| work(&devices[0], seed)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (devices, expected) = (&devices, &expected);
            scope.spawn(move || {
                for round in 0..5 {
                    let seed = (thread + round) % 4;
                    assert!(work(&devices[thread % 2], seed as u64) == expected[seed], "thread {thread}, round {round}");
                }
            });
        }
    });
}

#[test]
fn memory_goes_back_to_the_pool_and_from_there_to_the_driver() {
    let Some(wgpu) = common::device(WgpuOptions::default()) else { return };
    let device = Device::new(wgpu);
    work(&device, 0);
    let before = device.memory();
    assert_eq!(before.live, 0);
    for _ in 0..20 {
        work(&device, 0);
    }
    assert_eq!(device.memory(), before, "later rounds need no memory that the first did not");
    device.backend().as_any().downcast_ref::<Wgpu>().expect("our own device").trim();
    assert_eq!(device.memory().cached, 0);
    work(&device, 0);
}

/// Products of several shapes, one whose operand is a video, and attention.
fn products(device: &Device) -> Vec<Vec<f32>> {
    let shapes = [[20, 24, 24], [130, 70, 33], [1, 5, 100], [65, 129, 1]];
    let mut results: Vec<Tensor> = Vec::new();
    for [m, n, k] in shapes {
        let (x, weight) = (tensor(device, 1, &[m, k]), tensor(device, 2, &[n, k]));
        results.push(gemm(Gemm::default(), &x, &weight, None, None).expect("a product"));
    }
    let (video, weight) = (tensor(device, 3, &[2, 4, 9, 9, 3]), tensor(device, 4, &[70, 2, 3, 3, 3]));
    results.push(conv3d(Conv3d::new([1, 2, 2]), &video, &weight, None, None).expect("a convolution"));
    let [q, k, v] = [5, 6, 7].map(|seed| tensor(device, seed, &[1, 1, 37, 2, 12]));
    results.extend(attention_with_lse(0.3, 2, &q, &k, &v).expect("attention"));
    results.iter().map(|x| x.to_f32_vec().expect("a download")).collect()
}

#[test]
fn tiles_are_measured_once_kept_and_change_no_bit() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("wgsl-cache");
    let _ = std::fs::remove_dir_all(&folder);
    // Taken for a GPU: a processor has an attention without tiles.
    let gpu = WgpuOptions { plain: true, ..Default::default() };
    let Some(plain) = common::device(gpu.clone()) else { return };
    let open = |tune| {
        let options = WgpuOptions { tune, cache: Some(folder.clone()), ..gpu.clone() };
        Device::new(common::device(options).expect("there was one"))
    };
    let launches = |device: &Device| device.backend().as_any().downcast_ref::<Wgpu>().expect("our own device").launches();
    let expected = products(&Device::new(plain));
    let device = open(true);
    assert_eq!(products(&device), expected);
    let first = launches(&device);
    drop(device);
    let file = |start: &str| {
        let entries = std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("a file").path());
        entries.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)))
    };
    let tiles = file("tiles").expect("the choices");
    let text = std::fs::read_to_string(&tiles).expect("a text");
    assert!(text.contains("gemm of vectors 1 32 32 32: ") && text.contains("conv3d 1 ") && text.lines().count() == 6, "{text}");
    let device = open(true);
    assert_eq!(products(&device), expected);
    assert!(launches(&device) < first, "{first} launches the first time, {} the second", launches(&device));
    drop(device);
    // Those of products, of which a software device has the deepest, too; without workgroup memory; those of attention.
    for tile in [
        "64 64 16 4",
        "32 32 16 4",
        "64 64 32 4",
        "64 64 16 8",
        "128 64 16 8",
        "128 128 16 8",
        "128 128 32 8",
        "16 8",
        "4 8",
        "8",
        "16",
        "32",
    ] {
        let all: String = text.lines().filter_map(|line| Some(format!("{}: {tile}\n", line.split_once(": ")?.0))).collect();
        std::fs::write(&tiles, all).expect("a file");
        assert_eq!(products(&open(false)), expected, "{tile}");
    }
    // Damage costs time and nothing else.
    for start in ["tiles", "pipelines"] {
        if let Some(path) = file(start) {
            std::fs::write(path, "\u{0}gemm: 1 2").expect("a file");
        }
    }
    assert_eq!(products(&open(true)), expected);
}

/// Every f16 beside others, subnormal ones among them.
#[test]
fn sums_and_products_of_halves_are_those_of_f32_rounded() {
    let Some(halves) = common::device(WgpuOptions::default()) else { return };
    let Some(plain) = common::device(WgpuOptions { plain: true, ..Default::default() }) else { return };
    // Finite ones of either sign, as f32.
    let value = |i: usize| {
        let (exponent, fraction) = ((i >> 10) % 31, (i & 1023) as f32 / 1024.0);
        let size = if exponent == 0 { fraction * 2f32.powi(-14) } else { (1.0 + fraction) * 2f32.powi(exponent as i32 - 15) };
        if i / (31 << 10) % 2 == 1 { -size } else { size }
    };
    let n = 62 << 10;
    let bits = |device: &Device| -> Vec<Vec<u32>> {
        let tensor = |step: usize| {
            let values: Vec<f32> = (0..n).map(|i| value(i * step % n)).collect();
            Tensor::from_f32(device, DType::F16, &[n], &values).expect("memory")
        };
        let results = [3, 5, 7919].map(|step| {
            let (a, b) = (tensor(1), tensor(step));
            [Operator::Add, Operator::Sub, Operator::Mul].map(|operator| binary(operator, &a, &b).expect("a result"))
        });
        results.iter().flatten().map(|x| x.to_f32_vec().expect("a download").into_iter().map(f32::to_bits).collect()).collect()
    };
    assert!(bits(&Device::new(halves)) == bits(&Device::new(plain)));
}

/// Tiles in workgroup memory, which processors do without.
#[test]
fn tiles_of_halves_agree_with_the_reference() {
    let Some(wgpu) = common::device(WgpuOptions { as_gpu: true, ..Default::default() }) else { return };
    let device = Device::new(wgpu);
    let dry = Device::new(common::device(WgpuOptions { as_gpu: true, dry: true, ..Default::default() }).expect("there was one"));
    for name in ["gemm", "attention"] {
        for seed in 0..24 {
            let sample = samples::sample(name, &mut Philox::new(seed), 40, DType::F16, Values::Normal).expect("an operation");
            samples::check(&device, &sample).unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
            samples::run(&dry, &sample).unwrap_or_else(|error| panic!("{name}, seed {seed}: {error}"));
        }
    }
    let wgpu = dry.backend().as_any().downcast_ref::<Wgpu>().expect("our own device");
    if wgpu.description().contains(", f16") {
        for tile in ["left_tile: array<vec4<Number>", "query_tile: array<vec2<Number>"] {
            let halves = |shader: &Shader| shader.text.contains("alias Number = f16;") && shader.text.contains(tile);
            assert!(wgpu.shaders().iter().any(halves), "no f16 in {tile}");
        }
    }
}

#[test]
fn kernels_are_timed_where_the_adapter_has_a_clock() {
    let Some(wgpu) = common::device(WgpuOptions::default()) else { return };
    let expected = work(&Device::new(wgpu), 0);
    let timed = match Wgpu::new(WgpuOptions { profile: true, ..Default::default() }) {
        Ok(wgpu) => Device::new(wgpu),
        Err(error) => return println!("skipped: {error}"),
    };
    assert_eq!(work(&timed, 0), expected);
    let times = timed.backend().as_any().downcast_ref::<Wgpu>().expect("our own device").take_times().expect("times");
    assert_eq!(times.keys().copied().collect::<Vec<_>>(), ["binary", "gemm", "softmax"]);
    assert!(times.values().all(|&(launches, seconds)| launches == 40 && seconds > 0.0), "{times:?}");
}
