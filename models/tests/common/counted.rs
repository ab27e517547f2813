//! A driver that counts what it is asked for, and devices over it.
#![allow(clippy::unwrap_used, dead_code, reason = "each test binary uses a part")]

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tubelet_cuda::{
    CudaBackend, Options,
    driver::{Driver, EncodedMap, Event, Graph, Launch, Module, TensorMap, Work, cuda::Cuda},
    emulated::Emulated,
};
use tubelet_engine::{Device, Result};

/// What a driver has been asked for.
#[derive(Default)]
pub struct Asked {
    allocations: AtomicUsize,
    frees: AtomicUsize,
    uploads: AtomicUsize,
    copies: AtomicUsize,
    pub launches: AtomicUsize,
    /// Bytes.
    pub downloaded: AtomicUsize,
}

impl Asked {
    /// All but downloads.
    pub fn counts(&self) -> [usize; 5] {
        [&self.allocations, &self.frees, &self.uploads, &self.copies, &self.launches].map(|n| n.load(Relaxed))
    }
}

/// A driver, and a record of what it is asked for.
struct Counting(Box<dyn Driver>, Arc<Asked>);

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
        self.1.downloaded.fetch_add(dst.len(), Relaxed);
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

/// An emulated GPU.
pub fn emulated(caching: bool) -> (Device, Arc<Asked>) {
    over(Box::new(Emulated::new(Default::default())), caching)
}

/// The first GPU where `TUBELET_TEST_DEVICE` is `cuda`, an emulated one otherwise.
pub fn device(caching: bool) -> (Device, Arc<Asked>) {
    match std::env::var("TUBELET_TEST_DEVICE").as_deref() {
        Ok("cuda") => over(Box::new(Cuda::new(0).unwrap()), caching),
        _ => emulated(caching),
    }
}

fn over(driver: Box<dyn Driver>, caching: bool) -> (Device, Arc<Asked>) {
    let asked = Arc::new(Asked::default());
    let driver = Counting(driver, Arc::clone(&asked));
    (Device::new(CudaBackend::new(Box::new(driver), Options { caching, ..Options::default() })), asked)
}
