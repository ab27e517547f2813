//! The CUDA column of Tubelet's grid: one `.cu` file and one launcher for each operation of `tubelet_engine::ops`.
//!
//! The `.cu` files are compiled to PTX ahead of time (`cargo xtask ptx`) and the PTX is committed, so that building needs no CUDA toolkit and
//! running needs the driver alone. [`cuda`] is a device of this machine; where there is no driver, it is an error that says so.
//! With the feature `emulator`, `emulated` executes the same PTX on the CPU and refuses stray accesses, races and reads of what nobody wrote.
//!
//! [`Plan`] captures a computation once, a training step too, and replays it; [`Ranks`] are several devices that sum what each has found.
//!
//! ```no_run
//! let device = tubelet_cuda::cuda(0)?;
//! # Ok::<(), tubelet_engine::Error>(())
//! ```

#[macro_use]
mod parameters;
mod arena;
mod backend;
mod divisor;
pub mod driver;
mod elementwise;
mod hopper;
mod losses;
mod memory;
mod multi_tensor;
mod nest;
mod plan;
mod product;
mod profile;
mod ranks;
mod resample;
mod rows;
mod sequences;
mod step;
mod tubes;

// The rows of the grid.
mod adam;
mod attention;
mod attention_backward;
mod attention_topk_std;
mod attention_topk_std_backward;
mod batch_norm;
mod batch_norm_backward;
mod binary;
mod binary_cross_entropy;
mod binary_cross_entropy_backward;
mod concat;
mod conv3d;
mod conv3d_backward_video;
mod conv3d_backward_weight;
mod conv3d_depthwise;
mod conv3d_depthwise_backward;
mod copy;
mod cross_entropy;
mod cross_entropy_backward;
mod dropout;
mod gather;
mod gather_backward;
mod gemm;
mod interpolate;
mod interpolate_backward;
mod layer_norm;
mod layer_norm_backward;
mod layer_norm_gemm;
mod reduce;
mod resize;
mod resize_backward;
mod sgd;
mod softmax;
mod softmax_backward;
mod unary;
mod unary_backward;

pub use backend::{CudaBackend, Options};
#[cfg(feature = "emulator")]
pub use driver::emulated;
pub use plan::Plan;
pub use profile::Times;
pub use ranks::Ranks;
pub use step::Step;

use tubelet_engine::{Device, Result};

/// GPU `ordinal` of this machine, with all its memory.
///
/// # Errors
/// Where the driver or the GPU is missing, or is older than the kernels' PTX.
pub fn cuda(ordinal: usize) -> Result<Device> {
    open(ordinal, Options::default())
}

/// GPU `ordinal` of this machine, used as `options` say.
///
/// # Errors
/// As [`cuda`].
pub fn open(ordinal: usize, options: Options) -> Result<Device> {
    let driver = driver::cuda::Cuda::new(ordinal)?;
    Ok(Device::new(CudaBackend::new(Box::new(driver), options)))
}

/// How many GPUs this machine has; none where there is no driver.
pub fn count() -> usize {
    driver::cuda::count().map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever this machine has: a device that computes, or an error that says what is missing. Nothing panics.
    #[test]
    fn a_machine_without_a_gpu_says_so() -> Result<()> {
        match cuda(0) {
            Ok(device) => assert_eq!(device.name(), "cuda:0"),
            Err(error) => assert!(error.to_string().contains("cuda:0"), "{error}"),
        }
        assert!(cuda(1 << 20).is_err());
        Ok(())
    }
}
