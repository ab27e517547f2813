//! Executes PTX on the CPU, and reports what a GPU would hide.
//!
//! A GPU computes something for every program: a read beside a tensor gives a number, a missing barrier gives the right number on most days.
//! This crate executes the PTX that would be shipped, instruction by instruction, and answers with a [`Fault`] wherever a program relies on
//! chance: stray and misaligned accesses, reads of what nobody wrote, races in shared memory, barriers that cannot complete. What a launch
//! cost is counted in [`Counters`].
//!
//! ```
//! use tubelet_ptx_emulator::{Emulator, Launch, Module, Options};
//!
//! let module = Module::parse(
//!     ".version 8.4
//!      .target sm_80
//!      .address_size 64
//!      .visible .entry double_all(.param .u64 data) {
//!          .reg .b32 %r<3>; .reg .b64 %rd<4>; .reg .f32 %f<2>;
//!          ld.param.u64 %rd1, [data];
//!          mov.u32 %r1, %tid.x;
//!          mul.wide.u32 %rd2, %r1, 4;
//!          add.s64 %rd3, %rd1, %rd2;
//!          ld.global.f32 %f1, [%rd3];
//!          add.f32 %f1, %f1, %f1;
//!          st.global.f32 [%rd3], %f1;
//!          ret;
//!      }",
//! )?;
//! let emulator = Emulator::new(Options::default());
//! let address = emulator.allocate(8)?;
//! emulator.write(address, &[1.5f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat())?;
//! let launch = Launch { grid: [1, 1, 1], block: [2, 1, 1], dynamic_shared: 0 };
//! let counters = emulator.launch(&module, "double_all", launch, &[&address.to_le_bytes()])?;
//! let mut result = [0; 8];
//! emulator.read(address, &mut result)?;
//! assert_eq!(result, [3.0f32.to_le_bytes(), 4.0f32.to_le_bytes()].concat()[..]);
//! assert_eq!(counters.global_transactions, 2);
//!
//! // One thread more than there are elements.
//! let launch = Launch { block: [3, 1, 1], ..launch };
//! let fault = emulator.launch(&module, "double_all", launch, &[&address.to_le_bytes()]).unwrap_err();
//! assert_eq!((fault.line, fault.thread), (10, [2, 0, 0]));
//! # Ok::<(), tubelet_ptx_emulator::Fault>(())
//! ```

mod counters;
mod decode;
mod emulator;
mod execute;
mod fault;
mod flow;
mod memory;
mod module;
mod numeric;
mod program;
mod syntax;
mod tensor_map;
mod types;

pub use counters::Counters;
pub use emulator::{Emulator, Launch, Options};
pub use fault::{Fault, FaultKind, SourceLine, Space};
pub use module::Module;
pub use numeric::swizzle::Swizzle;
pub use tensor_map::TensorMap;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
