//! Captured plans give the bits of eager execution, for inputs that nobody had at capture, and need nothing but a launch.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tubelet_cuda::{
    CudaBackend, Options, Plan,
    driver::{Driver, EncodedMap, Event, Graph, Launch, Module, TensorMap, Work},
    emulated::Emulated,
};
use tubelet_engine::{
    DType, Device, Philox, Result, Tensor,
    ops::{
        binary::{add, mul},
        unary::unary,
    },
};
use tubelet_models::{Pass, engine::Function, inspect::measure, registry::Config};

/// What a driver has been asked for.
#[derive(Default)]
struct Asked {
    allocations: AtomicUsize,
    frees: AtomicUsize,
    uploads: AtomicUsize,
    copies: AtomicUsize,
    launches: AtomicUsize,
}

impl Asked {
    fn counts(&self) -> [usize; 5] {
        [&self.allocations, &self.frees, &self.uploads, &self.copies, &self.launches].map(|n| n.load(Relaxed))
    }
}

/// The emulator, and a record of what it is asked for.
struct Counting(Emulated, Arc<Asked>);

impl Driver for Counting {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn description(&self) -> String {
        self.0.description()
    }
    fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        self.1.allocations.fetch_add(1, Relaxed);
        self.0.allocate(bytes)
    }
    fn free(&self, address: u64) -> Result<()> {
        self.1.frees.fetch_add(1, Relaxed);
        self.0.free(address)
    }
    fn upload(&self, src: &[u8], address: u64) -> Result<()> {
        self.1.uploads.fetch_add(1, Relaxed);
        self.0.upload(src, address)
    }
    fn download(&self, address: u64, dst: &mut [u8]) -> Result<()> {
        self.0.download(address, dst)
    }
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.1.copies.fetch_add(1, Relaxed);
        self.0.copy(from, to, bytes)
    }
    fn launch(&self, module: &'static Module, kernel: &str, launch: Launch, parameter: &[u8]) -> Result<()> {
        self.1.launches.fetch_add(1, Relaxed);
        self.0.launch(module, kernel, launch, parameter)
    }
    fn graph(&self, work: Vec<Work>) -> Result<Box<dyn Graph>> {
        self.0.graph(work)
    }
    fn event(&self) -> Result<Event> {
        self.0.event()
    }
    fn elapsed(&self, from: &Event, to: &Event) -> Result<f64> {
        self.0.elapsed(from, to)
    }
    fn synchronize(&self) -> Result<()> {
        self.0.synchronize()
    }
    fn memory(&self) -> Result<(usize, usize)> {
        self.0.memory()
    }
    fn as_any(&self) -> &dyn Any {
        self.0.as_any()
    }
    fn capability(&self) -> (i32, i32) {
        self.0.capability()
    }
    fn tensor_map(&self, map: &TensorMap) -> Result<EncodedMap> {
        self.0.tensor_map(map)
    }
    fn multiprocessors(&self) -> usize {
        self.0.multiprocessors()
    }
}

fn device(caching: bool) -> (Device, Arc<Asked>) {
    let asked = Arc::new(Asked::default());
    let driver = Counting(Emulated::new(Default::default()), Arc::clone(&asked));
    (Device::new(CudaBackend::new(Box::new(driver), Options { caching, ..Options::default() })), asked)
}

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

/// A plan reserves what a pass has at its peak, what its kernels want besides, and what is cut up too small. Nothing is computed, so these are models of full
/// size.
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
        assert!(memory <= 2 * peak, "{name}: {memory} bytes, {peak} at the peak");
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
