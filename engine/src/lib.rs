//! Tensors, operations, and the reference, CPU and meter backends of Tubelet.

mod dtype;
mod error;

pub use bytemuck;
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use half;
