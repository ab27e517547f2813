//! NVIDIA's driver, loaded when first asked for.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};
use tubelet_engine::{Error, Result};

use super::{
    Driver, EncodedMap, Event, Graph, Launch, Module, TensorMap, Work,
    gpu::{Gpu, Moment, Pinned},
    graph::Captured,
    staging::Staging,
};

pub(crate) use super::gpu::count;

/// A GPU of this machine: its primary context and one stream of work.
pub struct Cuda {
    /// Pinned when first used. Downloads have lanes of their own: one that waits holds no upload up.
    up: Mutex<Option<Staging<Pinned>>>,
    down: Mutex<Option<Staging<Pinned>>>,
    gpu: Arc<Gpu>,
}

impl Cuda {
    /// GPU `ordinal`.
    ///
    /// # Errors
    /// Without a driver, without that GPU, and for chips before Ampere (compute capability 8.0), which the kernels are not written for.
    pub fn new(ordinal: usize) -> Result<Self> {
        Ok(Cuda { up: Mutex::default(), down: Mutex::default(), gpu: Arc::new(Gpu::open(ordinal)?) })
    }

    /// The GPU, for what else works in its stream.
    #[cfg(feature = "nccl")]
    pub(super) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    fn staged(
        &self,
        staging: &Mutex<Option<Staging<Pinned>>>,
        copy: impl FnOnce(&mut Staging<Pinned>) -> Result<()>,
    ) -> Result<()> {
        let mut staging = staging.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *staging {
            Some(staging) => copy(staging),
            None => copy(staging.insert(Staging::new([Pinned::new(&self.gpu)?, Pinned::new(&self.gpu)?]))),
        }
    }

    fn moment<'a>(&self, event: &'a Event) -> Result<&'a Moment> {
        let foreign = || Error::Device { device: self.gpu.name.clone(), message: "the event is another device's".into() };
        event.0.downcast_ref().ok_or_else(foreign)
    }
}

impl Driver for Cuda {
    fn name(&self) -> &str {
        &self.gpu.name
    }

    fn description(&self) -> String {
        let memory = self.memory().map_or(0, |(_, total)| total >> 30);
        format!("{}, {memory} GiB; PTX for compute_80", self.gpu.chip)
    }

    fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        self.gpu.enter()?;
        // SAFETY: the context is current.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(Some(address)),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(None),
            Err(code) => Err(self.gpu.error(&format!("allocating {bytes} bytes"), code)),
        }
    }

    fn free(&self, address: u64) -> Result<()> {
        // What is in the stream may still use it.
        self.synchronize()?;
        // SAFETY: the allocator frees each allocation once, and no work is left that uses it.
        unsafe { result::free_sync(address) }.map_err(|code| self.gpu.error("freeing memory", code))
    }

    fn upload(&self, src: &[u8], address: u64) -> Result<()> {
        self.staged(&self.up, |staging| staging.upload(src, address))
    }

    fn download(&self, address: u64, dst: &mut [u8]) -> Result<()> {
        self.staged(&self.down, |staging| staging.download(address, dst))
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let stream = self.gpu.enter()?;
        self.gpu.copy(stream, from, to, bytes)
    }

    fn launch(&self, module: &'static Module, kernel: &str, launch: Launch, parameter: &[u8]) -> Result<()> {
        let stream = self.gpu.enter()?;
        self.gpu.launch(stream, module, kernel, launch, parameter)
    }

    fn graph(&self, work: Vec<Work>) -> Result<Box<dyn Graph>> {
        Ok(Box::new(Captured::new(&self.gpu, &work)?))
    }

    fn event(&self) -> Result<Event> {
        Ok(Event(Box::new(Moment::now(&self.gpu)?)))
    }

    fn elapsed(&self, from: &Event, to: &Event) -> Result<f64> {
        self.moment(to)?.since(self.moment(from)?)
    }

    fn synchronize(&self) -> Result<()> {
        let stream = self.gpu.enter()?;
        // SAFETY: the stream is alive as long as the GPU's value.
        unsafe { result::stream::synchronize(stream) }.map_err(|code| self.gpu.error("waiting for the GPU", code))
    }

    fn memory(&self) -> Result<(usize, usize)> {
        self.gpu.enter()?;
        result::mem_get_info().map_err(|code| self.gpu.error("asking for memory", code))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn capability(&self) -> (i32, i32) {
        self.gpu.capability
    }

    fn tensor_map(&self, map: &TensorMap) -> Result<EncodedMap> {
        self.gpu.tensor_map(map)
    }

    fn multiprocessors(&self) -> usize {
        self.gpu.multiprocessors
    }
}
