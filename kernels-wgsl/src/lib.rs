//! The WGSL column of Tubelet's grid: one `.wgsl` file and one launcher for each operation of `tubelet_engine::ops`, on any adapter with a
//! Vulkan, Metal or DX12 driver.
//!
//! Sums are f32, so results are those of the other columns within the tolerances of their tests; u8 video goes in as it is. Where the adapter
//! has them, subgroups do the sums of rows and shaders see halves as they are (`SHADER_F16`, `SHADER_I16`), in tiles and in arithmetic that is
//! exact enough; elsewhere workgroup memory and words do: every kernel has both paths ([`WgpuOptions::plain`]).
//!
//! ```no_run
//! use tubelet_engine::{DType, Device, Tensor, ops};
//! use tubelet_wgsl::{Wgpu, WgpuOptions};
//!
//! let device = Device::new(Wgpu::new(WgpuOptions::default())?);
//! let x = Tensor::from_f32(&device, DType::F32, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
//! let y = ops::softmax::softmax(&x)?.to_f32_vec()?;
//! # Ok::<(), tubelet_engine::Error>(())
//! ```

mod cache;
mod device;
mod halves;
mod kernel;
mod memory;
mod operand;
mod pipeline;
mod profile;
mod recorder;
mod tuner;

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
mod product;
mod reduce;
mod resample;
mod resize;
mod resize_backward;
mod sgd;
mod softmax;
mod softmax_backward;
mod unary;
mod unary_backward;
mod unroll;

pub use cache::cache_folder;
pub use device::{Wgpu, WgpuOptions, adapters};
pub use pipeline::{Shader, Tiles};
pub use profile::Times;
