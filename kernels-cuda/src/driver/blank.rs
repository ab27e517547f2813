//! A GPU on paper: it has addresses and no memory, and computes nothing.
//!
//! What a plan reserves follows from shapes and from the order of the work alone, so it can be told for models and batches that no machine at hand could
//! hold.

use std::{
    any::Any,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use tubelet_engine::{Device, Result};

use super::{Driver, EncodedMap, Event, Graph, HOPPER, Launch, Module, TensorMap, Work};
use crate::backend::{CudaBackend, Options};

/// Above whatever could be mistaken for no address.
const FIRST: u64 = 1 << 32;
/// What the driver promises.
const ALIGN: u64 = 256;

/// A driver without a device. Work is accepted and forgotten; downloads are zeros.
struct Blank {
    capability: (i32, i32),
    next: AtomicU64,
}

/// A device on paper, of a compute capability, which decides between kernels: [`Plan`](crate::Plan)s captured on it say what they would reserve.
pub fn device(capability: (i32, i32)) -> Device {
    let driver = Blank { capability, next: AtomicU64::new(FIRST) };
    Device::new(CudaBackend::new(Box::new(driver), Options::default()))
}

/// No work.
struct Nothing;

impl Graph for Nothing {
    fn launch(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Driver for Blank {
    fn name(&self) -> &str {
        "cuda-blank"
    }

    fn description(&self) -> String {
        format!("compute capability {}.{}, on paper", self.capability.0, self.capability.1)
    }

    fn allocate(&self, bytes: usize) -> Result<Option<u64>> {
        Ok(Some(self.next.fetch_add((bytes as u64).next_multiple_of(ALIGN), Relaxed)))
    }

    fn free(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn upload(&self, _: &[u8], _: u64) -> Result<()> {
        Ok(())
    }

    fn download(&self, _: u64, dst: &mut [u8]) -> Result<()> {
        dst.fill(0);
        Ok(())
    }

    fn copy(&self, _: u64, _: u64, _: usize) -> Result<()> {
        Ok(())
    }

    fn launch(&self, _: &'static Module, _: &str, _: Launch, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn graph(&self, _: Vec<Work>) -> Result<Box<dyn Graph>> {
        Ok(Box::new(Nothing))
    }

    fn event(&self) -> Result<Event> {
        Ok(Event(Box::new(())))
    }

    fn elapsed(&self, _: &Event, _: &Event) -> Result<f64> {
        Ok(0.0)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> Result<(usize, usize)> {
        Ok((usize::MAX, usize::MAX))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn capability(&self) -> (i32, i32) {
        self.capability
    }

    fn tensor_map(&self, _: &TensorMap) -> Result<EncodedMap> {
        Ok([0; 16])
    }

    /// Of an A100 and an H100. What plans reserve does not depend on it.
    fn multiprocessors(&self) -> usize {
        if self.capability == HOPPER { 132 } else { 108 }
    }
}
