//! Tensors, operations, and the reference, CPU and meter backends of Tubelet.
//!
//! ```
//! use tubelet_engine::{Device, Tensor, ops::gemm::linear};
//!
//! let device = Device::cpu()?;
//! let x = Tensor::from_slice(&device, &[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! let weight = Tensor::from_slice(&device, &[1, 3], &[1f32, 0.0, -1.0])?;
//! assert_eq!(linear(&x, &weight, None)?.to_vec::<f32>()?, [-2.0, -2.0]);
//! # Ok::<(), tubelet_engine::Error>(())
//! ```

mod arena;
pub mod cpu;
mod device;
mod dtype;
mod error;
mod memory;
pub mod meter;
pub mod ops;
mod pages;
mod philox;
pub mod reference;
#[cfg(feature = "samples")]
pub mod samples;
mod shape;
mod tensor;
mod trace;

pub use device::{Backend, Device, DeviceBuffer, MemoryStats, Operand};
pub use dtype::{DType, Element, bytes_of, bytes_of_mut};
pub use error::{Error, Result};
pub use half;
pub use memory::{HostBuffer, HostPool};
pub use ops::{Cost, Function, Op, Spec};
pub use philox::{Philox, philox4x32};
pub use shape::{Layout, MAX_RANK, Shape};
pub use tensor::Tensor;
pub use trace::{Trace, View};
