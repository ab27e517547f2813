//! The backend: memory, dispatch, and what all launchers share.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, ThreadId},
};

use bytemuck::Pod;
use tubelet_engine::{Backend, DType, DeviceBuffer, Error, MemoryStats, Op, Result, Tensor, for_each_operation};

use crate::{
    arena::Arena,
    driver::{Driver, Launch, Module, Work},
    memory::{CudaBuffer, Pool},
    plan::Recording,
    profile::{Profile, Times},
    resample::Cache,
};

/// How a device is used.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Allocations beyond this many bytes fail.
    pub memory_limit: Option<usize>,
    /// Whether memory is kept for reuse. Off, an emulator sees every access beside a tensor.
    pub caching: bool,
    /// Whether each launch is timed, for [`CudaBackend::take_times`]. It makes them slower.
    pub profile: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { memory_limit: None, caching: true, profile: false }
    }
}

/// A device that executes this crate's PTX.
pub struct CudaBackend {
    driver: Arc<dyn Driver>,
    pool: Arc<Pool>,
    profile: Option<Profile>,
    /// Of the threads that capture a plan.
    recordings: Mutex<HashMap<ThreadId, Recording>>,
    pub(crate) tables: Cache,
}

/// Threads of a block of elementwise kernels, and the most of any.
pub(crate) const THREADS: u32 = 256;

impl CudaBackend {
    /// Over any driver.
    pub fn new(driver: Box<dyn Driver>, options: Options) -> Self {
        let driver: Arc<dyn Driver> = Arc::from(driver);
        let pool = Pool::new(Arc::clone(&driver), options.memory_limit, options.caching);
        CudaBackend {
            driver,
            pool,
            profile: options.profile.then(Profile::default),
            recordings: Mutex::default(),
            tables: Cache::default(),
        }
    }

    /// What executes the kernels.
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// What each kernel has taken since this was last asked, by the device's clock; nothing without [`Options::profile`]. On an emulator
    /// that is its own time.
    ///
    /// # Errors
    /// Where the device has failed meanwhile.
    pub fn take_times(&self) -> Result<Times> {
        self.profile.as_ref().map_or_else(|| Ok(Times::new()), |profile| profile.take(&*self.driver))
    }

    /// An error for what no kernel does.
    pub(crate) fn unsupported(&self, op: &'static str, message: impl Into<String>) -> Error {
        Error::Unsupported { op, device: self.driver.name().into(), message: message.into() }
    }

    /// An arena for the rehearsal of a plan.
    pub(crate) fn rehearsal(&self) -> Arc<Arena> {
        Arena::rehearsal(&self.pool)
    }

    /// Begins a recording of what this thread asks for, with a step's numbers at address `step`, if it is one; `false` where one is under way.
    pub(crate) fn record(&self, arena: Arc<Arena>, step: u64) -> bool {
        let mut recordings = self.recordings.lock().unwrap_or_else(PoisonError::into_inner);
        let absent = !recordings.contains_key(&thread::current().id());
        if absent {
            recordings.insert(thread::current().id(), Recording::new(arena, step));
        }
        absent
    }

    /// Ends this thread's recording.
    pub(crate) fn recorded(&self) -> Option<Recording> {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner).remove(&thread::current().id())
    }

    /// Asks this thread's recording, if there is one.
    pub(crate) fn recording<T>(&self, ask: impl FnOnce(&mut Recording) -> T) -> Option<T> {
        self.recordings.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&thread::current().id()).map(ask)
    }

    /// Where a captured step's numbers lie, for kernels that take them from there; 0 outside of such a capture.
    pub(crate) fn step_numbers(&self) -> u64 {
        self.recording(|recording| recording.step).unwrap_or(0)
    }

    /// Whether a buffer is of the plan that this thread captures, if it does: what is in it depends on the replay.
    pub(crate) fn captures(&self, buffer: &dyn DeviceBuffer) -> Result<Option<bool>> {
        let buffer = self.own(buffer)?;
        Ok(self.recording(|recording| buffer.is_of(&recording.arena)))
    }

    pub(crate) fn foreign(&self, message: String) -> Error {
        Error::Device { device: self.driver.name().into(), message }
    }

    fn own<'a>(&self, buffer: &'a dyn DeviceBuffer) -> Result<&'a CudaBuffer> {
        let own = buffer.as_any().downcast_ref::<CudaBuffer>().filter(|buffer| buffer.belongs_to(&self.pool));
        let own = own.ok_or_else(|| self.foreign("the buffer belongs to another device".into()))?;
        // A rehearsal's tensors have no memory for anybody but the rehearsal.
        if own.is_rehearsed() && self.recording(|recording| own.is_of(&recording.arena)) != Some(true) {
            return Err(self.foreign("the tensor is of a plan's rehearsal, and has no memory".into()));
        }
        Ok(own)
    }

    fn range(&self, buffer: &dyn DeviceBuffer, offset: usize, len: usize) -> Result<u64> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= buffer.bytes());
        if !inside {
            return Err(self.foreign(format!("bytes {offset}..{offset}+{len} of a buffer of {}", buffer.bytes())));
        }
        Ok(self.own(buffer)?.address + offset as u64)
    }

    /// The address of a tensor's element zero.
    pub(crate) fn address(&self, x: &Tensor) -> Result<u64> {
        Ok(self.own(x.buffer())?.address + (x.layout().offset() * x.dtype().size()) as u64)
    }

    /// The address of an operand that may be absent: then 0.
    pub(crate) fn address_or_null(&self, x: Option<&Tensor>) -> Result<u64> {
        x.map_or(Ok(0), |x| self.address(x))
    }

    /// Memory for the time of one operation: what reads it is in the stream before whatever is given the memory next.
    pub(crate) fn scratch(&self, bytes: usize) -> Result<CudaBuffer> {
        match self.recording(|recording| Arc::clone(&recording.arena)) {
            Some(arena) => arena.allocate(bytes),
            None => self.pool.allocate(bytes),
        }
    }

    /// Memory with this content from now on, whether or not a recording is under way.
    pub(crate) fn constant(&self, content: &[u8]) -> Result<CudaBuffer> {
        let buffer = self.pool.allocate(content.len())?;
        if !content.is_empty() {
            self.driver.upload(content, buffer.address)?;
        }
        Ok(buffer)
    }

    /// Launches `blocks` blocks of `threads` threads of a kernel that takes `parameters`; nothing where there are no blocks.
    pub(crate) fn launch<P: Pod>(
        &self,
        module: &'static Module,
        kernel: &str,
        blocks: usize,
        threads: u32,
        parameters: &P,
    ) -> Result<()> {
        self.launch_shared(module, kernel, blocks, threads, 0, parameters)
    }

    /// [`CudaBackend::launch`] with `shared` bytes of dynamic shared memory.
    pub(crate) fn launch_shared<P: Pod>(
        &self,
        module: &'static Module,
        kernel: &str,
        blocks: usize,
        threads: u32,
        shared: usize,
        parameters: &P,
    ) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let too_large = |what: String| self.unsupported(module.name, what);
        let grid = u32::try_from(blocks).ok().filter(|&n| n <= i32::MAX as u32);
        let grid = [grid.ok_or_else(|| too_large(format!("{blocks} blocks in one launch")))?, 1, 1];
        let dynamic_shared = u32::try_from(shared).map_err(|_| too_large(format!("{shared} bytes of shared memory")))?;
        let launch = Launch { grid, block: [threads, 1, 1], dynamic_shared };
        let parameter = bytemuck::bytes_of(parameters);
        let work = || Work::Launch { module, kernel: kernel.to_owned(), launch, parameter: parameter.to_vec() };
        if self.recording(|recording| recording.work.push(work())).is_some() {
            return Ok(());
        }
        let run = || self.driver.launch(module, kernel, launch, parameter);
        match &self.profile {
            Some(profile) => profile.time(&*self.driver, kernel, run),
            None => run(),
        }
    }

    /// One thread for each of `count` elements.
    pub(crate) fn launch_each<P: Pod>(&self, module: &'static Module, kernel: &str, count: u32, parameters: &P) -> Result<()> {
        self.launch(module, kernel, count.div_ceil(THREADS) as usize, THREADS, parameters)
    }

    /// `n` as kernels count: an error from 2³¹ on.
    pub(crate) fn count(&self, op: &'static str, n: usize) -> Result<u32> {
        let count = u32::try_from(n).ok().filter(|&n| n <= i32::MAX as u32);
        count.ok_or_else(|| self.unsupported(op, format!("{n} elements in one launch, at most 2^31 - 1")))
    }

    /// The suffix of kernels for an element type that is computed in.
    pub(crate) fn float(&self, op: &'static str, dtype: DType) -> Result<&'static str> {
        match dtype {
            DType::F32 | DType::BF16 | DType::F16 => Ok(dtype.name()),
            _ => Err(self.unsupported(op, format!("{dtype}; kernels compute in f32, bf16 and f16"))),
        }
    }
}

/// Operand `i`, which `infer` has found present.
pub(crate) fn operand<'a>(op: &'static str, inputs: &[Option<&'a Tensor>], i: usize) -> Result<&'a Tensor> {
    optional(inputs, i).ok_or_else(|| Error::shape(op, format!("operand {i} is missing")))
}

/// Operand `i`, which may be absent.
pub(crate) fn optional<'a>(inputs: &[Option<&'a Tensor>], i: usize) -> Option<&'a Tensor> {
    inputs.get(i).copied().flatten()
}

/// Result `i`, which the engine has allocated.
pub(crate) fn result<'a>(op: &'static str, outputs: &'a [Tensor], i: usize) -> Result<&'a Tensor> {
    outputs.get(i).ok_or_else(|| Error::shape(op, format!("result {i} is missing")))
}

macro_rules! dispatch {
    ($(($variant:ident, $module:ident)),*) => {
        fn dispatch(cuda: &CudaBackend, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
            match op {
                $(Op::$variant(op) => crate::$module::run(cuda, op, inputs, outputs)),*
            }
        }
    };
}
for_each_operation!(dispatch);

impl Backend for CudaBackend {
    fn name(&self) -> &str {
        self.driver.name()
    }

    fn description(&self) -> String {
        self.driver.description()
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>> {
        Ok(Arc::new(self.scratch(bytes)?))
    }

    fn upload(&self, src: &[u8], dst: &dyn DeviceBuffer, offset: usize) -> Result<()> {
        let address = self.range(dst, offset, src.len())?;
        if src.is_empty() {
            return Ok(());
        }
        // What is computed on the host is the same in every replay: the device keeps it, and copies it to where it is wanted.
        match self.captures(dst)? {
            None => self.driver.upload(src, address),
            Some(false) => Err(self.foreign("a plan uploads to its own memory alone".into())),
            Some(true) if self.recording(|recording| recording.arena.rehearses()) == Some(true) => Ok(()),
            Some(true) => {
                let constant = self.constant(src)?;
                self.recording(|recording| {
                    recording.work.push(Work::Copy { from: constant.address, to: address, bytes: src.len() });
                    recording.kept.push(Box::new(constant));
                });
                Ok(())
            }
        }
    }

    fn download(&self, src: &dyn DeviceBuffer, offset: usize, dst: &mut [u8]) -> Result<()> {
        let address = self.range(src, offset, dst.len())?;
        if dst.is_empty() {
            return Ok(());
        }
        if self.captures(src)? == Some(true) {
            return Err(self.foreign("what a plan computes cannot be read while it is captured".into()));
        }
        self.driver.download(address, dst)
    }

    fn synchronize(&self) -> Result<()> {
        self.driver.synchronize()
    }

    fn run(&self, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
        if outputs.iter().all(|x| x.elements() == 0) {
            return Ok(());
        }
        for x in inputs.iter().copied().flatten().chain(outputs) {
            let buffer = self.own(x.buffer())?;
            self.recording(|recording| recording.keep(x, buffer));
        }
        dispatch(self, op, inputs, outputs)
    }

    fn supports(&self, dtype: DType) -> bool {
        dtype != DType::F64
    }

    fn memory(&self) -> MemoryStats {
        self.pool.stats()
    }

    fn reset_peak(&self) {
        self.pool.reset_peak();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
