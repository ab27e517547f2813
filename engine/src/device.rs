//! Devices: cheap handles to an open set of backends.

use std::{any::Any, fmt, sync::Arc};

use crate::{DType, Op, Result, Tensor};

/// A block of device memory. Only its own backend can look inside; dropping it gives the memory back.
pub trait DeviceBuffer: Any + Send + Sync {
    /// For the backend that made it.
    fn as_any(&self) -> &dyn Any;
    /// Size in bytes.
    fn bytes(&self) -> usize;
}

/// Memory statistics of a device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In buffers that are alive.
    pub live: usize,
    /// The most that was ever alive at once since the last [`Backend::reset_peak`].
    pub peak: usize,
    /// Kept by the caching allocator for reuse, beyond `live`.
    pub cached: usize,
    /// Allocations beyond this fail with [`crate::Error::OutOfMemory`].
    pub limit: Option<usize>,
}

/// An operand that is read many times in the same place, and may be laid out once for the kernel that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The `weight` of [`crate::ops::gemm::Gemm`], `[N, K]`.
    GemmWeight,
    /// The `weight` of [`crate::ops::conv3d::Conv3d`], `[O, kt, kh, kw, C]`, one group.
    Conv3dWeight,
}

/// A backend: memory and kernels of one device.
///
/// Implement this in a crate of your own to add a column to the grid; `engine` needs no change.
/// A device may work asynchronously: [`Backend::run`] and [`Backend::upload`] may return before the work is done, in
/// order; only [`Backend::download`] and [`Backend::synchronize`] wait.
pub trait Backend: Send + Sync {
    /// As in `--device`: `"cpu"`, `"cuda:0"`.
    fn name(&self) -> &str;
    /// One line for people: the chip, its features, its memory.
    fn description(&self) -> String;
    /// Memory of uninitialised content.
    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceBuffer>>;
    /// Copies host bytes to `dst`, starting `offset` bytes in.
    fn upload(&self, src: &[u8], dst: &dyn DeviceBuffer, offset: usize) -> Result<()>;
    /// Waits for the work that `src` depends on and copies from `offset` bytes in.
    fn download(&self, src: &dyn DeviceBuffer, offset: usize, dst: &mut [u8]) -> Result<()>;
    /// Waits for all work.
    fn synchronize(&self) -> Result<()>;
    /// Runs one operation. Shapes and element types have been validated and `outputs` allocated, contiguous, by
    /// [`crate::ops`]; an operand that may be absent is `None`.
    fn run(&self, op: &Op, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()>;
    /// Lays out an operand for repeated use. The result has the same shape and is good for that operand only.
    fn prepare(&self, operand: Operand, tensor: &Tensor) -> Result<Tensor> {
        let _ = operand;
        Ok(tensor.clone())
    }
    /// Whether some kernel computes in `dtype`.
    fn supports(&self, dtype: DType) -> bool;
    /// Memory statistics.
    fn memory(&self) -> MemoryStats;
    /// Starts a new peak from what is live now.
    fn reset_peak(&self);
    /// For callers that know the backend.
    fn as_any(&self) -> &dyn Any;
}

/// A cheap handle to a backend. Two handles are equal when they mean the same device.
#[derive(Clone)]
pub struct Device(Arc<dyn Backend>);

impl Device {
    /// Wraps a backend.
    pub fn new(backend: impl Backend + 'static) -> Self {
        Device(Arc::new(backend))
    }

    /// The f64 oracle: plain loops, every element type.
    pub fn reference() -> Self {
        Device::new(crate::reference::Reference::default())
    }

    /// This machine's processor with its best instructions and all its threads; see [`crate::cpu::CpuOptions`].
    pub fn cpu() -> Result<Self> {
        Ok(Device::new(crate::cpu::Cpu::new(crate::cpu::CpuOptions::from_env()?)?))
    }

    /// The meter: counts FLOPs, bytes, launches and memory; computes nothing. See [`crate::meter::Meter`].
    pub fn meter() -> Self {
        Device::new(crate::meter::Meter::default())
    }

    /// The backend behind the handle.
    pub fn backend(&self) -> &dyn Backend {
        &*self.0
    }

    /// The backend, if it is a `B`.
    pub fn downcast<B: Backend + 'static>(&self) -> Option<&B> {
        self.0.as_any().downcast_ref()
    }

    /// As in `--device`.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Memory statistics.
    pub fn memory(&self) -> MemoryStats {
        self.0.memory()
    }

    /// Waits for all work.
    pub fn synchronize(&self) -> Result<()> {
        self.0.synchronize()
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.name())
    }
}
