//! The CUDA column of Tubelet's grid: one `.cu` file and one launcher for each operation of `tubelet_engine::ops`.
//!
//! The `.cu` files are compiled to PTX ahead of time (`cargo xtask ptx`) and the PTX is committed, so that building needs no CUDA toolkit and
//! running needs the driver alone. [`cuda`] is a device of this machine; where there is no driver, it is an error that says so.
//!
//! ```no_run
//! let device = tubelet_cuda::cuda(0)?;
//! # Ok::<(), tubelet_engine::Error>(())
//! ```

#[macro_use]
mod parameters;
mod backend;
pub mod driver;
mod memory;
mod nest;

pub use backend::{CudaBackend, Options};

use tubelet_engine::{Device, Result};

/// GPU `ordinal` of this machine, with all its memory.
///
/// # Errors
/// Where the driver or the GPU is missing, or is older than the kernels' PTX.
pub fn cuda(ordinal: usize) -> Result<Device> {
    let driver = driver::cuda::Cuda::new(ordinal)?;
    Ok(Device::new(CudaBackend::new(Box::new(driver), Options::default())))
}
