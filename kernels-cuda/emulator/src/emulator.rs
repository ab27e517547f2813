//! What a host program sees: memory and launches.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use crate::counters::Counters;
use crate::execute;
use crate::fault::{Fault, FaultKind, Space};
use crate::memory::heap::Heap;
use crate::module::Module;

/// How to emulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Host threads that share the blocks of a launch. The results do not depend on it.
    pub threads: usize,
    /// The most instructions that one warp may execute: [`FaultKind::TooLong`] instead of a loop without end.
    pub instruction_limit: Option<u64>,
    /// Bytes of global memory.
    pub memory: u64,
    /// The most shared memory of a block, in bytes.
    pub shared_memory: u32,
    /// Whether races in shared memory are looked for.
    pub races: bool,
    /// Whether the host, too, may read only what was written; otherwise it reads zeros there.
    pub strict_host_reads: bool,
}

impl Default for Options {
    /// All of the host's cores, 2^30 instructions, 16 GiB, the 227 KiB of shared memory of Hopper, and every check except that of the host.
    fn default() -> Options {
        Options {
            threads: std::thread::available_parallelism().map_or(1, NonZero::get),
            instruction_limit: Some(1 << 30),
            memory: 16 << 30,
            shared_memory: 227 << 10,
            races: true,
            strict_host_reads: false,
        }
    }
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes of shared memory beyond what the kernel declares.
    pub dynamic_shared: u32,
}

/// A GPU with its global memory.
///
/// Calls may come from several threads at once; launches return when they are done. Memory is not allocated or freed while a launch runs:
/// such a call waits.
pub struct Emulator {
    options: Options,
    heap: RwLock<Heap>,
    /// The addresses of the `.global` variables of each module that was launched.
    variables: Mutex<HashMap<u64, Arc<[u64]>>>,
}

impl Emulator {
    /// An emulator with empty memory.
    pub fn new(options: Options) -> Emulator {
        Emulator { options, heap: RwLock::new(Heap::new(options.memory)), variables: Mutex::default() }
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Bytes of global memory that are allocated, and that there are.
    pub fn memory(&self) -> (u64, u64) {
        self.heap().usage()
    }

    /// Allocates global memory, unwritten, at a multiple of 256. Addresses are never used again, and between allocations lie gaps, so that a
    /// stray access does not hit a neighbour.
    ///
    /// # Errors
    /// [`FaultKind::OutOfMemory`], also for 4 GiB or more in one allocation.
    pub fn allocate(&self, bytes: usize) -> Result<u64, Fault> {
        self.heap_mut(|heap| heap.allocate(bytes as u64))
    }

    /// Frees the allocation that begins at `address`.
    ///
    /// # Errors
    /// [`FaultKind::UseAfterFree`] or [`FaultKind::OutOfBounds`] where none does.
    pub fn free(&self, address: u64) -> Result<(), Fault> {
        self.heap_mut(|heap| heap.free(address))
    }

    /// Copies from the host.
    ///
    /// # Errors
    /// [`FaultKind::UseAfterFree`] or [`FaultKind::OutOfBounds`] where the range is not inside one allocation.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let heap = self.heap();
        let (storage, offset) = heap.range(address, bytes.len()).map_err(|kind| Fault::host("", kind))?;
        storage.write(offset, bytes);
        Ok(())
    }

    /// Copies to the host.
    ///
    /// # Errors
    /// As [`Emulator::write`]; with [`Options::strict_host_reads`] also [`FaultKind::Uninitialised`].
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let heap = self.heap();
        let (storage, offset) = heap.range(address, bytes.len()).map_err(|kind| Fault::host("", kind))?;
        if self.options.strict_host_reads
            && let Some(at) = storage.first_unwritten(offset, bytes.len())
        {
            let address = address + (at - offset) as u64;
            return Err(Fault::host("", FaultKind::Uninitialised { space: Space::Global, address }));
        }
        storage.read(offset, bytes);
        Ok(())
    }

    /// Runs a kernel to its end. `parameters` are the bytes of each parameter of the kernel.
    ///
    /// # Errors
    /// [`FaultKind::UnknownKernel`] and [`FaultKind::BadArguments`] before anything runs; otherwise the first fault of the first block that
    /// had one. What the other blocks wrote by then may differ from run to run.
    pub fn launch(&self, module: &Module, kernel: &str, launch: Launch, parameters: &[&[u8]]) -> Result<Counters, Fault> {
        let Some(found) = module.kernel(kernel) else { return Err(Fault::host(kernel, FaultKind::UnknownKernel)) };
        let globals = self.globals(module).map_err(|kind| Fault::host(kernel, kind))?;
        let heap = self.heap();
        let grid = execute::Grid::new(found, launch, parameters, &heap, &module.constants, &globals, &self.options);
        grid.map_err(|kind| Fault::host(kernel, kind))?.run()
    }

    /// The module's variables, allocated and initialised when first asked for.
    fn globals(&self, module: &Module) -> Result<Arc<[u64]>, FaultKind> {
        let mut all = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&module.number) {
            return Ok(Arc::clone(found));
        }
        let mut heap = self.heap.write().unwrap_or_else(PoisonError::into_inner);
        let mut addresses = Vec::new();
        for variable in &module.globals {
            // Variables without an initial value are zero.
            let mut bytes = variable.initial.clone().unwrap_or_default();
            bytes.resize(variable.bytes.unwrap_or(0) as usize, 0);
            let address = heap.allocate(bytes.len() as u64)?;
            if !bytes.is_empty() {
                let (storage, offset) = heap.range(address, bytes.len())?;
                storage.write(offset, &bytes);
            }
            addresses.push(address);
        }
        let addresses: Arc<[u64]> = addresses.into();
        all.insert(module.number, Arc::clone(&addresses));
        Ok(addresses)
    }

    fn heap(&self) -> RwLockReadGuard<'_, Heap> {
        self.heap.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn heap_mut<T>(&self, f: impl FnOnce(&mut Heap) -> Result<T, FaultKind>) -> Result<T, Fault> {
        let mut heap = self.heap.write().unwrap_or_else(PoisonError::into_inner);
        f(&mut heap).map_err(|kind| Fault::host("", kind))
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("options", &self.options).field("memory", &self.memory()).finish_non_exhaustive()
    }
}
