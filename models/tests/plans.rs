//! Captured plans give the bits of eager execution, for inputs that nobody had at capture, and need nothing but a launch. On the emulator, and with
//! `TUBELET_TEST_DEVICE=cuda` on a GPU.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod common;

use common::counted::device;
use tubelet_cuda::Plan;
use tubelet_engine::{
    DType, Device, Philox, Result, Tensor,
    ops::{
        binary::{add, mul},
        unary::unary,
    },
};
use tubelet_models::{Pass, engine::Function, inspect::measure, registry::Config};

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_f32_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

/// With memory that is reused, as on a GPU, and without, where the emulator sees every access beside a tensor.
#[test]
fn replays_have_the_bits_of_eager_passes() {
    for (name, dtype) in [
        ("tubevit-tiny", DType::F32),
        ("vivit-tiny", DType::F32),
        ("vidtr-tiny", DType::F32),
        ("uniformerv2-tiny", DType::F32),
        ("uniformerv2-tiny", DType::BF16),
    ] {
        for caching in [true, false] {
            replays(name, dtype, caching);
        }
    }
}

fn replays(name: &str, dtype: DType, caching: bool) {
    let (device, asked) = device(caching);
    let model = Config::named(name).unwrap().random(&device, dtype, 0).unwrap();
    let input = model.input();
    let shape = [1, input.frames, input.size[0], input.size[1], 3];
    let mut rng = Philox::new(7);
    let clips = [(); 3].map(|()| (0..shape.iter().product()).map(|_| rng.below(256) as u8).collect::<Vec<u8>>());
    let videos = clips.each_ref().map(|clip| Tensor::from_slice(&device, &shape, clip).unwrap());
    let forward = |video: &Tensor| model.forward(video, &mut Pass::inference()).unwrap();
    let resident = device.memory().live;
    device.backend().reset_peak();
    let expected = videos.each_ref().map(|video| bits(&forward(video)));
    let eager = device.memory().peak - resident;
    assert!(expected[0] != expected[1] && expected[1] != expected[2], "the clip has to matter");

    let (before, live) = (asked.counts(), device.memory().live);
    let mut plan = Plan::capture(&device, [&videos[0]], |[video]| model.forward(video, &mut Pass::inference())).unwrap();
    assert_eq!(asked.counts()[4], before[4], "a capture computes nothing");
    let memory = plan.memory();
    println!("{name} {dtype}, caching {caching}: {} launches, {memory} bytes; an eager pass peaks at {eager}", plan.launches());
    assert_eq!(device.memory().live, live + memory, "all that a plan adds is its own memory");

    // The plan keeps the weights; whoever wants memory gets other memory than the plan's, and spoils it.
    drop((model, videos));
    let spoil = || [1, 100, 3000, 50_000].map(|n| vec![Tensor::full(&device, DType::F32, &[n], f32::NAN).unwrap(); 8]);
    let held = spoil();
    assert!(bits(plan.replay().unwrap()) == expected[0], "{name}: the example's");
    for i in [1, 2, 0, 1] {
        plan.write(0, &clips[i]).unwrap();
        let (before, memory) = (asked.counts(), device.memory());
        let output = plan.replay().unwrap();
        assert_eq!(asked.counts(), before, "{name}: a replay asks for nothing but itself");
        assert_eq!(device.memory(), memory);
        assert!(bits(output) == expected[i], "{name}: clip {i}");
        drop(spoil());
    }
    drop(plan);
    let held: usize = held.iter().flatten().map(|x| x.elements() * 4).sum::<usize>() / 8;
    assert!(device.memory().live <= held + held / 4, "{name}: {} bytes are left behind", device.memory().live);
}

/// A plan reserves what a pass has at its peak, and next to nothing for how tensors lie in it or for what kernels want besides: the meter's peak is no less
/// than what is there at once. Nothing is computed, so these are models of full size.
#[test]
fn plans_reuse_their_memory() {
    for name in ["tubevit-b", "vivit-b-fe", "vidtr-s", "uniformerv2-b16-k400"] {
        let config = Config::named(name).unwrap();
        let peak = measure(&config, 1, DType::BF16).unwrap().activation_bytes as usize;
        let (device, _) = device(true);
        let model = config.random(&device, DType::BF16, 0).unwrap();
        let input = model.input();
        let shape = [1, input.frames, input.size[0], input.size[1], 3];
        let video = Tensor::empty(&device, DType::U8, &shape).unwrap();
        let plan = Plan::capture(&device, [&video], |[video]| model.forward(video, &mut Pass::inference())).unwrap();
        let memory = plan.memory();
        println!("{name}, bf16: {} launches, {} KiB; the peak is {} KiB", plan.launches(), memory >> 10, peak >> 10);
        assert!(memory <= peak + peak / 20, "{name}: {memory} bytes, {peak} at the peak");
    }
}

#[test]
fn what_a_plan_cannot_do_is_an_error() {
    let (device, _) = device(true);
    let x = Tensor::from_slice(&device, &[3], &[1f32, -2.0, 3.0]).unwrap();
    let relu = |x: &Tensor| unary(Function::Relu, x);
    let refused = |result: Result<Plan>, why: &str| match result {
        Ok(_) => panic!("no error: {why}"),
        Err(error) => assert!(error.to_string().contains(why), "{error}"),
    };
    refused(Plan::capture(&Device::cpu().unwrap(), [], |[]| relu(&x)), "not a CUDA device");
    refused(Plan::capture(&device, [&x], |[x]| Tensor::from_slice(&device, &[3], &relu(x)?.to_vec::<f32>()?)), "cannot be read");
    refused(Plan::capture(&device, [&x], |[x]| Ok(Plan::capture(&device, [x], |[x]| relu(x))?.replay()?.clone())), "already");
    let mut sizes = [3, 300].into_iter();
    let grows = |_: [&Tensor; 1]| Tensor::zeros(&device, DType::F32, &[sizes.next().unwrap()]);
    refused(Plan::capture(&device, [&x], grows), "other memory than the first time");
    let mut first = None;
    let remembers = |[x]: [&Tensor; 1]| relu(first.get_or_insert(relu(x)?));
    refused(Plan::capture(&device, [&x], remembers), "rehearsal");
    assert!(first.unwrap().to_vec::<f32>().unwrap_err().to_string().contains("rehearsal"));
    let mut plan = Plan::capture(&device, [&x], |[x]| relu(x)).unwrap();
    refused(Plan::capture(&device, [&x], |_| plan.replay().cloned()), "while another is captured");
    assert!(plan.write(0, &[1f32; 2]).is_err() && plan.write(0, &[1u8; 3]).is_err() && plan.write(1, &[1f32; 3]).is_err());
    assert!(plan.copy(0, &x.reshape(&[1, 3]).unwrap()).is_err());
    // After all that the device computes at once again, and the plan is what it was.
    assert_eq!(relu(&x).unwrap().to_vec::<f32>().unwrap(), [1.0, 0.0, 3.0]);
    plan.copy(0, &Tensor::from_slice(&device, &[3], &[-1f32, 5.0, 6.0]).unwrap()).unwrap();
    assert_eq!(plan.replay().unwrap().to_vec::<f32>().unwrap(), [0.0, 5.0, 6.0]);
}

/// What is computed on the host has a place of its own: the tensor's is another's as soon as it is gone, in the first replay already.
#[test]
fn constants_outlive_the_memory_they_are_used_in() {
    for caching in [true, false] {
        let (device, asked) = device(caching);
        let x = Tensor::from_slice(&device, &[3], &[1f32, -2.0, 3.0]).unwrap();
        let mut plan = Plan::capture(&device, [&x], |[x]| {
            let sum = add(x, &Tensor::from_slice(&device, &[3], &[10f32, 20.0, 30.0])?)?;
            mul(&unary(Function::Relu, x)?, &sum)
        })
        .unwrap();
        assert_eq!(plan.launches(), 4, "three kernels and a copy");
        let _others = [(); 8].map(|()| Tensor::from_slice(&device, &[3], &[f32::NAN; 3]).unwrap());
        let before = asked.counts();
        for _ in 0..3 {
            assert_eq!(plan.replay().unwrap().to_vec::<f32>().unwrap(), [11.0, 0.0, 99.0]);
        }
        assert_eq!(asked.counts(), before);
    }
}

/// What another thread computes while one captures is computed at once, and is no part of the plan.
#[test]
fn other_threads_go_on_during_a_capture() {
    let (device, _) = device(true);
    let x = Tensor::from_slice(&device, &[2], &[-4f32, 4.0]).unwrap();
    let other = || unary(Function::Relu, &x).unwrap().to_vec::<f32>().unwrap();
    let mut plan = Plan::capture(&device, [&x], |[x]| {
        assert_eq!(std::thread::scope(|scope| scope.spawn(other).join().unwrap()), [0.0, 4.0]);
        unary(Function::Relu, x)
    })
    .unwrap();
    assert_eq!(plan.launches(), 1);
    assert_eq!(plan.replay().unwrap().to_vec::<f32>().unwrap(), [0.0, 4.0]);
}
