//! The WGSL column of Tubelet's grid: one `.wgsl` file and one launcher for each operation of `tubelet_engine::ops`.
//!
//! This crate holds no kernel yet. It will implement `tubelet_engine::Backend` over any adapter with a Vulkan, Metal or DX12 driver.
//! See `docs/status.md` for what exists.
