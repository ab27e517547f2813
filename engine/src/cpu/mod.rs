//! The CPU backend: vectorised, multi-threaded kernels chosen by run-time detection.

use std::{
    any::Any,
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::{
    Backend, DType, DeviceBuffer, Element, Error, HostBuffer, HostPool, MemoryStats, Op, Operand, Result, Tensor,
    for_each_operation, memory,
};

mod adam;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod attention_backward;
mod attention_topk_std;
mod attention_topk_std_backward;
mod batch_norm;
mod batch_norm_backward;
mod binary;
mod binary_cross_entropy;
mod binary_cross_entropy_backward;
mod columns;
mod concat;
mod conv3d;
mod conv3d_backward_video;
mod conv3d_backward_weight;
mod conv3d_depthwise;
mod conv3d_depthwise_backward;
mod convert;
mod copy;
mod cross_entropy;
mod cross_entropy_backward;
mod dropout;
mod elementwise;
mod epilogue;
mod gather;
mod gather_backward;
mod gemm;
mod interpolate;
mod interpolate_backward;
mod layer_norm;
mod layer_norm_backward;
mod layer_norm_gemm;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod panels;
mod patches;
mod placement;
mod pool;
mod product;
mod reduce;
mod resample;
mod resize;
mod resize_backward;
mod sgd;
mod simd;
mod softmax;
mod softmax_backward;
mod strided;
#[cfg(target_arch = "x86_64")]
mod transpose;
mod unary;
mod unary_backward;
mod unit;

use pool::Pool;
pub use simd::Level;

/// How to set up a CPU device.
#[derive(Clone, Debug, Default)]
pub struct CpuOptions {
    /// Threads in all; default: as many as the machine runs at once.
    pub threads: Option<usize>,
    /// Vector instructions; default: the best that the machine has, see [`Level::best`].
    pub simd: Option<Level>,
    /// Bytes of tensors beyond which allocation fails.
    pub memory_limit: Option<usize>,
    /// Poison and fence every buffer (for tests): see [`HostPool::new`].
    pub guard: bool,
}

impl CpuOptions {
    /// From `TUBELET_THREADS`, `TUBELET_SIMD` (`amx`, `avx512-bf16`, `avx512`, `avx2`, `neon`, `portable`) and `TUBELET_MEMORY_LIMIT` (bytes).
    pub fn from_env() -> Result<Self> {
        fn number(name: &str) -> Result<Option<usize>> {
            let Ok(text) = env::var(name) else { return Ok(None) };
            let value = text.parse().ok().filter(|&n| n > 0);
            value.map(Some).ok_or_else(|| Error::invalid(name, format!("{text:?} is not a positive number")))
        }
        let simd = env::var("TUBELET_SIMD").ok().map(|name| name.parse()).transpose()?;
        Ok(CpuOptions { threads: number("TUBELET_THREADS")?, simd, memory_limit: number("TUBELET_MEMORY_LIMIT")?, guard: false })
    }
}

/// See the [module](self).
pub struct Cpu {
    pool: Pool,
    level: Level,
    memory: HostPool,
}

impl Cpu {
    /// An error if the machine lacks the instructions that `options` asks for.
    pub fn new(options: CpuOptions) -> Result<Self> {
        let level = options.simd.unwrap_or_else(Level::best);
        if !level.available() {
            return Err(Error::Device { device: "cpu".into(), message: format!("this machine has no {level}") });
        }
        Ok(Cpu::of(options, level))
    }

    /// As [`Self::new`], without asking whether the machine has the instructions: for tests of levels that are emulated.
    ///
    /// # Safety
    /// The processor, or something that takes its faults, must execute the instructions of `options.simd`.
    #[doc(hidden)]
    pub unsafe fn assume(options: CpuOptions) -> Self {
        let level = options.simd.unwrap_or_else(Level::best);
        Cpu::of(options, level)
    }

    fn of(options: CpuOptions, level: Level) -> Self {
        let threads = options.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        Cpu { pool: Pool::new(threads), level, memory: HostPool::new("cpu", options.memory_limit, options.guard) }
    }

    /// The vector instructions in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Threads in all.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Gives cached memory back to the system.
    pub fn trim(&self) {
        self.memory.trim();
    }

    /// Calls `body(i, scratch)` for each task with a buffer of `floats` f32 that no other task uses meanwhile; one buffer per thread.
    fn with_scratch(&self, tasks: usize, floats: usize, body: impl Fn(usize, &HostBuffer) + Sync) -> Result<()> {
        self.run_with_scratch(tasks, floats, &body)
    }

    /// [`Self::with_scratch`], compiled once for all bodies.
    fn run_with_scratch(&self, tasks: usize, floats: usize, body: &(dyn Fn(usize, &HostBuffer) + Sync)) -> Result<()> {
        let places = self.pool.threads().min(tasks);
        let place =
            |_| Ok(Place { taken: AtomicBool::new(false), scratch: self.memory.allocate(floats.max(1) * size_of::<f32>())? });
        let places = (0..places).map(place).collect::<Result<Vec<_>>>()?;
        self.pool.for_each_by(tasks, &|i, thread| {
            // There are as many as tasks at a time, so one is free: as a rule the thread's own.
            let mut nearest = (thread..).map(|place| &places[place % places.len()]);
            if let Some(place) = nearest.find(|place| !place.taken.swap(true, Ordering::Acquire)) {
                body(i, &place.scratch);
                place.taken.store(false, Ordering::Release);
            }
        });
        Ok(())
    }

    /// The first element of a tensor's view, of its type or of [one as large](with_word). Valid for reads within its layout; for writes, if it is an output of the running operation.
    fn ptr<T: Element>(&self, x: &Tensor) -> Result<*mut T> {
        debug_assert_eq!(x.dtype().size(), size_of::<T>(), "{} as {}", x.dtype(), T::DTYPE);
        let base = memory::host("cpu", x.buffer())?.ptr().cast::<T>();
        // SAFETY: a layout's offset lies in its buffer or one past its end.
        Ok(unsafe { base.add(x.layout().offset()) })
    }
}

/// A buffer for one task at a time, in a pair of cache lines of its own.
#[repr(align(128))]
struct Place {
    taken: AtomicBool,
    scratch: HostBuffer,
}

/// A pointer that kernels share between threads; each thread writes only what is its own.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);
// SAFETY: kernels divide the outputs so that no two indices of a parallel loop write the same element.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer. (A method, so that closures capture the wrapper, not the raw pointer.)
    #[inline(always)]
    fn get(&self) -> *mut T {
        self.0
    }
}

/// [`crate::with_element`] for results that are floating-point numbers: kernels are large, so none is compiled for a type that it cannot meet.
macro_rules! with_float {
    ($op:literal, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::BF16 => {
                type $T = $crate::half::bf16;
                $body
            }
            $crate::DType::F16 => {
                type $T = $crate::half::f16;
                $body
            }
            got => Err($crate::Error::DType { op: $op, operand: "result", got, expected: "a float" }),
        }
    };
}
use with_float;

/// For operations that move elements without looking at them: with a type of the elements' size.
macro_rules! with_word {
    ($op:literal, $dtype:expr, $W:ident => $body:expr) => {
        match $dtype.size() {
            1 => {
                type $W = u8;
                $body
            }
            2 => {
                type $W = $crate::half::f16;
                $body
            }
            4 => {
                type $W = i32;
                $body
            }
            _ => Err($crate::Error::DType { op: $op, operand: "result", got: $dtype, expected: "at most 4 bytes" }),
        }
    };
}
use with_word;

macro_rules! dispatch {
    ($(($variant:ident, $module:ident)),*) => {
        impl Cpu {
            fn dispatch(&self, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
                match op {
                    $(Op::$variant(op) => $module::run(op, inputs, outputs, self)),*
                }
            }
        }
    };
}
for_each_operation!(dispatch);

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn description(&self) -> String {
        format!("{} threads, {}", self.threads(), self.level)
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>> {
        Ok(Arc::new(self.memory.allocate(bytes)?))
    }

    fn upload(&self, src: &[u8], dst: &dyn DeviceBuffer, offset: usize) -> Result<()> {
        memory::upload("cpu", src, dst, offset)
    }

    fn download(&self, src: &dyn DeviceBuffer, offset: usize, dst: &mut [u8]) -> Result<()> {
        memory::download("cpu", src, offset, dst)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn run(&self, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
        if let Some(x) = inputs.iter().flatten().chain(&outputs.iter().collect::<Vec<_>>()).find(|x| !self.supports(x.dtype())) {
            let message = format!("no kernels for {}; the reference device has them", x.dtype());
            return Err(Error::Unsupported { op: op.name(), device: "cpu".into(), message });
        }
        if outputs.iter().all(|out| out.elements() == 0) {
            return Ok(());
        }
        self.dispatch(op, inputs, outputs)
    }

    fn prepare(&self, operand: Operand, tensor: &Tensor) -> Result<Tensor> {
        match operand {
            Operand::GemmWeight => gemm::prepare(tensor, self),
            Operand::Conv3dWeight => conv3d::prepare(tensor, self),
        }
    }

    fn supports(&self, dtype: DType) -> bool {
        dtype != DType::F64
    }

    fn memory(&self) -> MemoryStats {
        self.memory.stats()
    }

    fn reset_peak(&self) {
        self.memory.reset_peak();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What tests of levels need.
#[cfg(test)]
mod testing {
    use super::{Cpu, CpuOptions, Level};
    use crate::Device;

    /// Guarded devices of every level that this machine has; of AMX on its emulator where the processor has none.
    pub(super) fn devices(threads: usize) -> Vec<Device> {
        let device = |level: Level| {
            let options = CpuOptions { threads: Some(threads), simd: Some(level), memory_limit: None, guard: true };
            if level == Level::Amx && !level.available() && Level::Avx512Bf16.available() {
                let installed = tubelet_amx_emulator::install().inspect_err(|reason| println!("amx is skipped: {reason}"));
                // SAFETY: the machine has AVX512-BF16, and the emulator executes the rest.
                return installed.ok().map(|()| Device::new(unsafe { Cpu::assume(options) }));
            }
            level.available().then(|| Device::new(Cpu::new(options).unwrap()))
        };
        Level::ALL.into_iter().filter_map(device).collect()
    }

    #[test]
    fn what_the_processor_lacks_is_refused_though_it_is_emulated() {
        let lacking = Level::ALL.into_iter().filter(|level| !level.available());
        let _ = tubelet_amx_emulator::install();
        for simd in lacking {
            assert!(Cpu::new(CpuOptions { simd: Some(simd), ..CpuOptions::default() }).is_err(), "{simd}");
        }
        assert!(Level::best().available());
    }
}
