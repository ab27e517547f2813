//! The CUDA column of Tubelet's grid: one `.cu` file and one launcher for each operation of `tubelet_engine::ops`.
//!
//! This crate holds no kernel yet. It will implement `tubelet_engine::Backend` over PTX that is compiled ahead of time and committed,
//! so that building needs no CUDA toolkit and running needs the driver alone; and over an emulator of that PTX, so that every kernel is
//! executed by tests on machines without a GPU. See `docs/status.md` for what exists.
