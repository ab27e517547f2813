//! A launch: its checks, and its blocks over host threads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use super::block::Worker;
use crate::counters::Counters;
use crate::emulator::{Launch, Options};
use crate::fault::{Fault, FaultKind};
use crate::memory::heap::Heap;
use crate::memory::shadow::WARPS;
use crate::memory::storage::Storage;
use crate::program::Kernel;

/// The largest block, and its largest extents.
const MOST_THREADS: u64 = 1024;
const MOST_BLOCK: [u32; 3] = [1024, 1024, 64];
const MOST_CLUSTER: u32 = 8;
const MOST_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// Everything that the blocks of a launch share.
pub struct Grid<'a> {
    pub kernel: &'a Kernel,
    pub launch: Launch,
    pub parameters: Storage,
    pub heap: &'a Heap,
    pub constants: &'a Storage,
    pub globals: &'a [u64],
    pub options: &'a Options,
}

fn refuse<T>(what: String) -> Result<T, FaultKind> {
    Err(FaultKind::BadArguments(what.into()))
}

impl<'a> Grid<'a> {
    /// Checks the numbers of a launch.
    pub fn new(
        kernel: &'a Kernel,
        launch: Launch,
        parameters: &[&[u8]],
        heap: &'a Heap,
        constants: &'a Storage,
        globals: &'a [u64],
        options: &'a Options,
    ) -> Result<Grid<'a>, FaultKind> {
        check_shape(kernel, &launch)?;
        let parameters = place(kernel, parameters)?;
        let grid = Grid { kernel, launch, parameters, heap, constants, globals, options };
        let shared = u64::from(kernel.dynamic_base) + u64::from(launch.dynamic_shared);
        let most = options.shared_memory;
        if shared > u64::from(most) {
            return refuse(format!("{shared} bytes of shared memory, {most} are allowed"));
        }
        Ok(grid)
    }

    pub fn threads(&self) -> u32 {
        self.launch.block.iter().product()
    }

    /// Warps of a block.
    pub fn warps(&self) -> u32 {
        self.threads().div_ceil(32)
    }

    /// Blocks of a cluster.
    pub fn cluster(&self) -> u32 {
        self.kernel.cluster
    }

    pub fn shared_bytes(&self) -> u32 {
        self.kernel.dynamic_base + self.launch.dynamic_shared
    }

    /// Bytes from the shared memory of one block of a cluster to the next one's: what is aligned in one is in all.
    pub fn shared_stride(&self) -> u32 {
        self.shared_bytes().next_multiple_of(if self.cluster() > 1 { 1024 } else { 1 })
    }

    /// `%tid` of a thread, counted through the cluster.
    pub fn thread_id(&self, thread: u32) -> [u32; 3] {
        split(u64::from(thread % (self.warps() * 32)), self.launch.block)
    }

    /// `%ctaid` of a block of the grid.
    pub fn block_id(&self, block: u64) -> [u32; 3] {
        split(block, self.launch.grid)
    }

    /// Executes all blocks.
    pub fn run(&self) -> Result<Counters, Fault> {
        let blocks: u64 = self.launch.grid.iter().map(|&n| u64::from(n)).product();
        let blocks = blocks / u64::from(self.cluster());
        let shares = Shares { next: AtomicU64::new(0), blocks, fault: AtomicU64::new(u64::MAX) };
        let most = usize::try_from(blocks).unwrap_or(usize::MAX);
        let threads = if self.kernel.ordered() { 1 } else { self.options.threads.clamp(1, most) };
        if threads == 1 {
            let (counters, fault) = self.work(&shares);
            return fault.map_or(Ok(counters), |(_, fault)| Err(fault));
        }
        let mut results = vec![];
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| self.work(&shares))).collect();
            results.push(self.work(&shares));
            for other in others {
                match other.join() {
                    Ok(result) => results.push(result),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        let mut counters = Counters::default();
        for (part, _) in &results {
            counters += *part;
        }
        let first = results.into_iter().filter_map(|(_, fault)| fault).min_by_key(|(block, _)| *block);
        first.map_or(Ok(counters), |(_, fault)| Err(fault))
    }

    /// One host thread's part of the blocks.
    fn work(&self, shares: &Shares) -> (Counters, Option<(u64, Fault)>) {
        let mut worker = match Worker::new(self) {
            Ok(worker) => worker,
            Err(kind) => return (Counters::default(), Some((0, Fault::host(&self.kernel.name, kind)))),
        };
        while let Some(block) = shares.take() {
            let first = block * u64::from(self.cluster());
            if let Err(fault) = worker.run((0..self.cluster()).map(|rank| self.block_id(first + u64::from(rank))).collect()) {
                shares.fault.fetch_min(block, Relaxed);
                return (worker.counters(), Some((block, fault)));
            }
        }
        (worker.counters(), None)
    }
}

/// Blocks to hand out, a cluster at a time, in order: so that all blocks before a faulty one are executed, and the first fault is the same every time.
struct Shares {
    next: AtomicU64,
    blocks: u64,
    fault: AtomicU64,
}

impl Shares {
    fn take(&self) -> Option<u64> {
        let block = self.next.fetch_add(1, Relaxed);
        (block < self.blocks && block < self.fault.load(Relaxed)).then_some(block)
    }
}

fn split(index: u64, sizes: [u32; 3]) -> [u32; 3] {
    let (x, y) = (u64::from(sizes[0]), u64::from(sizes[1]));
    [(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32]
}

fn check_shape(kernel: &Kernel, launch: &Launch) -> Result<(), FaultKind> {
    let Launch { grid, block, .. } = launch;
    if grid.iter().chain(block).any(|&n| n == 0) {
        return refuse(format!("grid {grid:?} of blocks {block:?}: nothing to run"));
    }
    if grid.iter().zip(MOST_GRID).any(|(&n, most)| n > most) {
        return refuse(format!("grid {grid:?} is larger than {MOST_GRID:?}"));
    }
    let threads: u64 = block.iter().map(|&n| u64::from(n)).product();
    let most = MOST_THREADS.min(kernel.max_threads.map_or(MOST_THREADS, u64::from));
    if threads > most || block.iter().zip(MOST_BLOCK).any(|(&n, most)| n > most) {
        return refuse(format!("blocks {block:?} of {threads} threads, {most} are allowed"));
    }
    let (cluster, warps) = (kernel.cluster, threads.div_ceil(32));
    // More warps than a block may have are not followed here.
    let fits = cluster == 1 || (u64::from(cluster) * warps <= WARPS as u64 && warps.is_multiple_of(4));
    if !(1..=MOST_CLUSTER).contains(&cluster) || !grid[0].is_multiple_of(cluster) || !fits {
        return refuse(format!("grid {grid:?} of blocks {block:?} in clusters of {cluster}"));
    }
    Ok(())
}

/// Lays the parameters out as the kernel declares them.
fn place(kernel: &Kernel, given: &[&[u8]]) -> Result<Storage, FaultKind> {
    let wanted = &kernel.parameters;
    if given.len() != wanted.len() {
        return refuse(format!("{} parameters, the kernel has {}", given.len(), wanted.len()));
    }
    let bytes = kernel.parameter_bytes as usize;
    let storage = Storage::new(bytes).ok_or(FaultKind::OutOfMemory { bytes: bytes as u64 })?;
    for (at, (given, wanted)) in given.iter().zip(wanted).enumerate() {
        if given.len() != wanted.bytes as usize {
            return refuse(format!("parameter {at} has {} bytes, the kernel declares {}", given.len(), wanted.bytes));
        }
        storage.write(wanted.offset as usize, given);
    }
    Ok(storage)
}
