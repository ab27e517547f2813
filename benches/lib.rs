//! What the benches share: operands, cases, and the measured roofline.

use std::{
    hint::{self, black_box},
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use criterion::{Criterion, Throughput};
use tubelet_engine::{DType, Device, Op, Operand, Philox, Spec, Tensor, ops};

/// An operation with its operands on a device.
pub struct Case {
    /// What it is, with its shapes.
    pub label: String,
    /// The operation.
    pub op: Op,
    /// Its operands.
    pub inputs: Vec<Option<Tensor>>,
}

impl Case {
    /// A case; all operands present.
    pub fn new(label: &str, op: impl Into<Op>, inputs: impl IntoIterator<Item = Tensor>) -> Self {
        Case { label: label.into(), op: op.into(), inputs: inputs.into_iter().map(Some).collect() }
    }

    /// One run, to its end.
    pub fn run(&self) -> Vec<Tensor> {
        let inputs: Vec<Option<&Tensor>> = self.inputs.iter().map(Option::as_ref).collect();
        let device = inputs.iter().flatten().next().map(|x| x.device());
        let results = ops::run(&self.op, &inputs);
        let done = results.and_then(|results| device.map_or(Ok(()), Device::synchronize).map(|()| results));
        done.unwrap_or_else(|error| panic!("{}: {error}", self.label))
    }

    /// Whether the operation takes these operands: some come in f32 alone.
    pub fn fits(&self) -> bool {
        let inputs: Vec<Option<&Tensor>> = self.inputs.iter().map(Option::as_ref).collect();
        self.op.infer(&inputs).is_ok()
    }

    /// `(FLOPs of products, compulsory bytes)` of a run.
    pub fn cost(&self) -> (f64, f64) {
        let inputs: Vec<Option<&Tensor>> = self.inputs.iter().map(Option::as_ref).collect();
        let specs: Vec<Spec> = self.op.infer(&inputs).unwrap_or_else(|error| panic!("{}: {error}", self.label));
        let cost = self.op.cost(&inputs, &specs).unwrap_or_else(|error| panic!("{}: {error}", self.label));
        (cost.flops as f64, cost.bytes as f64)
    }
}

/// The device of `TUBELET_DEVICE`, by default the CPU.
pub fn device() -> Device {
    let name = std::env::var("TUBELET_DEVICE").unwrap_or_else(|_| "cpu".into());
    tubelet_models::devices::open(&name).unwrap_or_else(|error| panic!("{error}"))
}

/// Normal numbers.
pub fn normal(device: &Device, shape: &[usize]) -> Tensor {
    let mut rng = Philox::new(7);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_f32(device, dtype(), shape, &data).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`normal`], in f32 whatever the element type: attention's log-sum-exp.
pub fn log_sums(device: &Device, shape: &[usize]) -> Tensor {
    normal(device, shape).cast(DType::F32).unwrap_or_else(|error| panic!("{error}"))
}

/// The element type of `TUBELET_DTYPE`: f32 unless it names another.
pub fn dtype() -> DType {
    let Ok(name) = std::env::var("TUBELET_DTYPE") else { return DType::F32 };
    let known = [DType::F32, DType::BF16, DType::F16];
    known.into_iter().find(|dtype| dtype.name() == name).unwrap_or_else(|| panic!("TUBELET_DTYPE={name}: f32, bf16 or f16"))
}

/// Random bytes: video.
pub fn bytes(device: &Device, shape: &[usize]) -> Tensor {
    let mut rng = Philox::new(7);
    let data: Vec<u8> = (0..shape.iter().product()).map(|_| rng.next_u32() as u8).collect();
    Tensor::from_slice(device, shape, &data).unwrap_or_else(|error| panic!("{error}"))
}

/// A weight laid out for its kernel, as models have it.
pub fn weight(device: &Device, shape: &[usize], operand: Operand) -> Tensor {
    normal(device, shape).prepare(operand).unwrap_or_else(|error| panic!("{error}"))
}

/// What a command prints, where there is such a command.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Date, commit and processor.
pub fn provenance() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let processor = model.trim_start_matches([' ', '\t', ':']);
    format!("{}, commit {}, {processor}", said("date", &["-u", "+%F"]), said("git", &["rev-parse", "--short", "HEAD"]))
}

/// Measures cases under criterion, with their throughput, and prints the part of the roofline that the first runs reach.
pub fn group(name: &str, cases: impl FnOnce(&Device) -> Vec<Case>) {
    let mut criterion = Criterion::default().configure_from_args();
    let device = device();
    let roofline = Roofline::measure();
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    for case in cases(&device) {
        let (flops, bytes) = case.cost();
        let seconds = best(5, || drop(black_box(case.run())));
        println!("{name}/{}: {}", case.label, roofline.describe(flops, bytes, seconds));
        group.throughput(if flops > 0.0 { Throughput::Elements(flops as u64) } else { Throughput::Bytes(bytes as u64) });
        group.bench_function(&case.label, |b| b.iter(|| black_box(case.run())));
    }
    group.finish();
    criterion.final_summary();
}

/// The shortest of `n` runs, in seconds.
pub fn best(n: usize, mut run: impl FnMut()) -> f64 {
    let time = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..n).map(|_| time(&mut run)).fold(f64::INFINITY, f64::min)
}

/// What the machine can do at most, measured in this run.
#[derive(Clone, Copy, Debug)]
pub struct Roofline {
    /// Multiply-adds of f32 from registers alone, all threads, FLOP/s.
    pub flops: f64,
    /// Products of bf16 in pairs from registers alone (AVX512-BF16), where the machine has them.
    pub pairs: Option<f64>,
    /// `a = b + s·c` over arrays larger than any cache, all threads, bytes/s.
    pub bytes: f64,
}

impl Roofline {
    /// Measures, on as many threads as `TUBELET_THREADS` says, or the machine has.
    pub fn measure() -> Self {
        let threads = std::env::var("TUBELET_THREADS").ok().and_then(|n| n.parse().ok());
        let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        let steps = 4_000_000usize;
        let flops = together(threads, &|_| {
            black_box(multiply_adds(steps));
        });
        let pairs = best_of_pairs(threads, steps).map(|seconds| (2 * threads * steps * FLOPS_PER_STEP) as f64 / seconds);
        let n = 1 << 24;
        let arrays: Vec<[Vec<f32>; 3]> = (0..threads).map(|_| [(); 3].map(|()| vec![1f32; n / threads])).collect();
        let arrays: Vec<_> = arrays.into_iter().map(Mutex::new).collect();
        let bytes = together(threads, &|thread| {
            let [a, b, c] = &mut *arrays[thread].lock().unwrap_or_else(PoisonError::into_inner);
            triad(a, b, c);
        });
        Roofline { flops: (threads * steps * FLOPS_PER_STEP) as f64 / flops, pairs, bytes: (12 * n) as f64 / bytes }
    }

    /// FLOP/s of products of an element type: of bf16 whichever of pairs and f32 is faster.
    pub fn peak(&self, dtype: DType) -> f64 {
        self.pairs.filter(|_| dtype == DType::BF16).map_or(self.flops, |pairs| pairs.max(self.flops))
    }

    /// What part of the shortest possible time a run took.
    pub fn part(&self, dtype: DType, flops: f64, bytes: f64, seconds: f64) -> f64 {
        (flops / self.peak(dtype)).max(bytes / self.bytes) / seconds
    }

    /// The measured roofs in words.
    pub fn said(&self) -> String {
        let pairs = self.pairs.map_or(String::new(), |pairs| format!(", {:.0} GFLOP/s of bf16 in pairs", pairs / 1e9));
        let (flops, bytes) = (self.flops / 1e9, self.bytes / 1e9);
        format!("{flops:.0} GFLOP/s of f32 multiply-adds from registers{pairs}, {bytes:.1} GB/s triad")
    }

    /// GFLOP/s or GB/s, and the part of what the machine can do at this intensity.
    pub fn describe(&self, flops: f64, bytes: f64, seconds: f64) -> String {
        let part = 100.0 * self.part(dtype(), flops, bytes, seconds);
        let rate = if flops > 0.0 {
            format!("{:.0} GFLOP/s", flops / seconds / 1e9)
        } else {
            format!("{:.1} GB/s", bytes / seconds / 1e9)
        };
        format!("{:.3} ms, {rate}, {part:.0}% of the roofline", seconds * 1e3)
    }
}

fn triad(a: &mut [f32], b: &[f32], c: &[f32]) {
    for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
        *a = b + 3.0 * c;
    }
}

/// Twenty-four chains of 16 lanes, two operations each.
const FLOPS_PER_STEP: usize = 24 * 16 * 2;

/// Seconds of as many steps with twice the operations each.
fn best_of_pairs(threads: usize, steps: usize) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
        return Some(together(threads, &|_| {
            // SAFETY: the machine has the instructions.
            black_box(unsafe { pairs_avx512(steps) });
        }));
    }
    let _ = (threads, steps);
    None
}

/// The shortest of ten runs of `work(thread)` on all threads at once, in seconds. The threads live through all runs and never sleep: on a virtual
/// machine a woken one may share the processor of who wakes it, for longer than a run (half of the peak came out).
fn together(threads: usize, work: &(dyn Fn(usize) + Sync)) -> f64 {
    const RUNS: usize = 10;
    let arrived = AtomicUsize::new(0);
    let meet = |times: usize| {
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < times * threads {
            hint::spin_loop();
        }
    };
    let run = |thread: usize| {
        let mut shortest = f64::INFINITY;
        for round in 0..RUNS {
            meet(2 * round + 1);
            let start = Instant::now();
            work(thread);
            meet(2 * round + 2);
            shortest = shortest.min(start.elapsed().as_secs_f64());
        }
        shortest
    };
    thread::scope(|scope| {
        (1..threads).for_each(|thread| {
            drop(scope.spawn({
                let run = &run;
                move || run(thread)
            }))
        });
        run(0)
    })
}

fn multiply_adds(steps: usize) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions.
        return unsafe { multiply_adds_avx512(steps) };
    }
    let mut sums = [[0.1f32; 16]; 24];
    for _ in 0..steps {
        for lane in sums.as_flattened_mut() {
            *lane = *lane * 0.999 + 0.001;
        }
    }
    sums.as_flattened().iter().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn multiply_adds_avx512(steps: usize) -> f32 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let mut sums = [_mm512_set1_ps(0.1); 24];
    let (factor, addend) = (_mm512_set1_ps(0.999), _mm512_set1_ps(0.001));
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, addend);
        }
    }
    _mm512_reduce_add_ps(sums.into_iter().fold(_mm512_set1_ps(0.0), |a, b| _mm512_add_ps(a, b)))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs_avx512(steps: usize) -> f32 {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
    };
    let mut sums = [_mm512_setzero_ps(); 24];
    // Hidden, or the compiler multiplies beforehand.
    let factor = black_box(_mm512_cvtne2ps_pbh(_mm512_set1_ps(0.999), _mm512_set1_ps(0.001)));
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, factor, factor);
        }
    }
    _mm512_reduce_add_ps(sums.into_iter().fold(_mm512_setzero_ps(), |a, b| _mm512_add_ps(a, b)))
}
