//! A caching allocator of device memory.
//!
//! Work is done in order, so a block can be used again as soon as its tensor is gone: what still reads it comes before what writes it next.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tubelet_engine::{DeviceBuffer, Error, MemoryStats, Result};

use crate::{arena::Arena, driver::Driver};

/// Blocks are recycled within size classes of at most 1/8 waste, from 512 bytes on.
fn size_class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(512);
    bytes.div_ceil(step) * step
}

#[derive(Default)]
struct State {
    stats: MemoryStats,
    free: HashMap<usize, Vec<u64>>,
}

/// The allocator of one device.
pub(crate) struct Pool {
    driver: Arc<dyn Driver>,
    state: Mutex<State>,
    caching: bool,
}

impl Pool {
    /// Without `caching`, every buffer is an allocation of its own of just its size, so that an emulator sees every access beside it.
    pub fn new(driver: Arc<dyn Driver>, limit: Option<usize>, caching: bool) -> Arc<Self> {
        let state = State { stats: MemoryStats { limit, ..MemoryStats::default() }, free: HashMap::new() };
        Arc::new(Pool { driver, state: Mutex::new(state), caching })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether blocks are kept for reuse.
    pub fn caching(&self) -> bool {
        self.caching
    }

    pub fn stats(&self) -> MemoryStats {
        self.lock().stats
    }

    pub fn reset_peak(&self) {
        let stats = &mut self.lock().stats;
        stats.peak = stats.live;
    }

    /// A buffer of `bytes` bytes of arbitrary content.
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<CudaBuffer> {
        if bytes == 0 {
            return Ok(CudaBuffer { address: 0, bytes, class: 0, home: Home::Pool(Arc::clone(self)) });
        }
        let mut state = self.lock();
        let MemoryStats { live, limit, .. } = state.stats;
        let refusal = || Error::OutOfMemory { device: self.driver.name().into(), requested: bytes, live, limit };
        if bytes > isize::MAX as usize / 2 || limit.is_some_and(|limit| live.saturating_add(bytes) > limit) {
            return Err(refusal());
        }
        let class = if self.caching { size_class(bytes) } else { bytes };
        let address = match state.free.get_mut(&class).and_then(Vec::pop) {
            Some(address) => {
                state.stats.cached -= class;
                address
            }
            None => self.fresh(&mut state, class)?.ok_or_else(refusal)?,
        };
        state.stats.live += bytes;
        state.stats.peak = state.stats.peak.max(state.stats.live);
        Ok(CudaBuffer { address, bytes, class, home: Home::Pool(Arc::clone(self)) })
    }

    fn give_back(&self, buffer: &CudaBuffer) {
        let mut state = self.lock();
        state.stats.live -= buffer.bytes;
        if self.caching {
            state.stats.cached += buffer.class;
            state.free.entry(buffer.class).or_default().push(buffer.address);
        } else {
            drop(state);
            // A device that fails now has failed before, and said so.
            let _ = self.driver.free(buffer.address);
        }
    }

    /// Memory from the driver; where it has none left, what is cached goes back first.
    fn fresh(&self, state: &mut State, class: usize) -> Result<Option<u64>> {
        if let Some(address) = self.driver.allocate(class)? {
            return Ok(Some(address));
        }
        for address in std::mem::take(&mut state.free).into_values().flatten() {
            self.driver.free(address)?;
        }
        state.stats.cached = 0;
        self.driver.allocate(class)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for address in std::mem::take(&mut state.free).into_values().flatten() {
            // A device that fails now has failed before, and said so.
            let _ = self.driver.free(address);
        }
    }
}

/// Where a block goes back to.
enum Home {
    Pool(Arc<Pool>),
    /// As the tensor of this number.
    Arena(Arc<Arena>, usize),
}

/// A block of device memory. Dropping it returns it to where it came from.
pub(crate) struct CudaBuffer {
    pub address: u64,
    bytes: usize,
    class: usize,
    home: Home,
}

impl CudaBuffer {
    /// Tensor `number` of a plan.
    pub fn of_arena(arena: &Arc<Arena>, number: usize, address: u64, bytes: usize) -> Self {
        CudaBuffer { address, bytes, class: bytes, home: Home::Arena(Arc::clone(arena), number) }
    }

    /// Bytes that its user asked for.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// Whether it is memory of this pool's device.
    pub fn belongs_to(&self, pool: &Arc<Pool>) -> bool {
        match &self.home {
            Home::Pool(home) => Arc::ptr_eq(home, pool),
            Home::Arena(arena, _) => Arc::ptr_eq(&arena.pool, pool),
        }
    }

    /// Whether it is this plan's.
    pub fn is_of(&self, arena: &Arc<Arena>) -> bool {
        matches!(&self.home, Home::Arena(home, _) if Arc::ptr_eq(home, arena))
    }

    /// Whether it stands for memory that there will only be when a plan's rehearsal is over.
    pub fn is_rehearsed(&self) -> bool {
        matches!(&self.home, Home::Arena(arena, _) if arena.rehearses())
    }
}

impl DeviceBuffer for CudaBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for CudaBuffer {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        match &self.home {
            Home::Arena(arena, number) => arena.give_back(*number),
            Home::Pool(pool) => pool.give_back(self),
        }
    }
}
