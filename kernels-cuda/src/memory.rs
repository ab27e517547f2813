//! A caching allocator of device memory.
//!
//! Work is done in order, so a block can be used again as soon as its tensor is gone: what still reads it comes before what writes it next.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tubelet_engine::{DeviceBuffer, Error, MemoryStats, Result};

use crate::driver::Driver;

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

/// Memory of a plan: blocks of the pool that nobody else is given as long as one who may use them is there.
///
/// A plan's work is done again and again, in the order in which it was recorded. So memory goes from one tensor to the next within the recording as it
/// would in the pool, but never back to the pool, where a replay would find another's content in it, or leave its own. Unlike the pool, which serves
/// whoever comes, an arena serves one sequence that ends: it cuts blocks up and joins what is free, which wastes less.
pub(crate) struct Arena {
    pool: Arc<Pool>,
    state: Mutex<Reserved>,
}

#[derive(Default)]
struct Reserved {
    blocks: Vec<CudaBuffer>,
    /// What is free: where it starts, and how much.
    free: BTreeMap<u64, usize>,
}

/// What an arena hands out starts at multiples of this, as the pool's blocks do.
const GRAIN: usize = 512;

impl Reserved {
    /// Takes `bytes` from the smallest free range that has them.
    fn take(&mut self, bytes: usize) -> Option<u64> {
        let fits = self.free.iter().filter(|&(_, &size)| size >= bytes).min_by_key(|&(_, &size)| size);
        let (address, size) = fits.map(|(&address, &size)| (address, size))?;
        self.free.remove(&address);
        if size > bytes {
            self.free.insert(address + bytes as u64, size - bytes);
        }
        Some(address)
    }

    /// Gives a range back, and joins it with its neighbours if they are free.
    fn give_back(&mut self, mut address: u64, mut bytes: usize) {
        let end = address + bytes as u64;
        if !self.begins_block(end)
            && let Some(size) = self.free.remove(&end)
        {
            bytes += size;
        }
        if let Some((&before, &size)) = self.free.range(..address).next_back()
            && before + size as u64 == address
            && !self.begins_block(address)
        {
            (address, bytes) = (before, size + bytes);
        }
        self.free.insert(address, bytes);
    }

    /// Blocks may happen to touch, but no copy may reach from one into another.
    fn begins_block(&self, address: u64) -> bool {
        self.blocks.iter().any(|block| block.address == address)
    }
}

impl Arena {
    /// Over a pool, empty.
    pub fn new(pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Arena { pool: Arc::clone(pool), state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Reserved> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Pool::allocate`].
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<CudaBuffer> {
        if bytes == 0 {
            return self.pool.allocate(0);
        }
        // Without caching every tensor has a block of its own, of just its size.
        let class = if self.pool.caching { bytes.next_multiple_of(GRAIN) } else { bytes };
        let mut reserved = self.lock();
        let address = match reserved.take(class) {
            Some(address) => address,
            None => {
                let block = self.pool.allocate(class)?;
                let address = block.address;
                reserved.blocks.push(block);
                address
            }
        };
        Ok(CudaBuffer { address, bytes, class, home: Home::Arena(Arc::clone(self)) })
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> usize {
        self.lock().blocks.iter().map(|block| block.bytes).sum()
    }

    fn give_back(&self, address: u64, bytes: usize) {
        if self.pool.caching {
            self.lock().give_back(address, bytes);
        }
    }
}

/// Where a block goes back to.
enum Home {
    Pool(Arc<Pool>),
    Arena(Arc<Arena>),
}

/// A block of device memory. Dropping it returns it to where it came from.
pub(crate) struct CudaBuffer {
    pub address: u64,
    bytes: usize,
    class: usize,
    home: Home,
}

impl CudaBuffer {
    /// Whether it is memory of this pool's device.
    pub fn belongs_to(&self, pool: &Arc<Pool>) -> bool {
        match &self.home {
            Home::Pool(home) => Arc::ptr_eq(home, pool),
            Home::Arena(arena) => Arc::ptr_eq(&arena.pool, pool),
        }
    }

    /// Whether it is this plan's.
    pub fn is_of(&self, arena: &Arc<Arena>) -> bool {
        matches!(&self.home, Home::Arena(home) if Arc::ptr_eq(home, arena))
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
            Home::Arena(arena) => arena.give_back(self.address, self.class),
            Home::Pool(pool) => pool.give_back(self),
        }
    }
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use tubelet_engine::Philox;

    use super::*;
    use crate::emulated::Emulated;

    /// Whatever is handed out at once lies apart, inside of the blocks; when all is back, every block is whole again.
    #[test]
    fn an_arena_cuts_its_blocks_up_and_joins_them() -> Result<()> {
        let pool = Pool::new(Arc::new(Emulated::new(Default::default())), None, true);
        let arena = Arena::new(&pool);
        let (mut rng, mut held) = (Philox::new(3), Vec::<CudaBuffer>::new());
        for _ in 0..2000 {
            if rng.below(2) == 0 && !held.is_empty() {
                held.swap_remove(rng.below(held.len()));
            } else if held.len() < 20 {
                held.push(arena.allocate(1 + rng.below(20_000))?);
            }
            let inside = |x: &CudaBuffer, block: &CudaBuffer| {
                block.address <= x.address && x.address + x.bytes as u64 <= block.address + block.bytes as u64
            };
            let mut ranges: Vec<_> = held.iter().map(|x| (x.address, x.address + x.bytes as u64)).collect();
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two share memory: {ranges:?}");
            let reserved = arena.lock();
            assert!(held.iter().all(|x| x.address % 512 == 0 && reserved.blocks.iter().any(|block| inside(x, block))));
        }
        held.clear();
        let reserved = arena.lock();
        let mut blocks: Vec<_> = reserved.blocks.iter().map(|block| (block.address, block.bytes)).collect();
        blocks.sort_unstable();
        assert!(reserved.free.iter().map(|(&address, &bytes)| (address, bytes)).eq(blocks));
        drop(reserved);
        let bytes = arena.bytes();
        assert_eq!(pool.stats().live, bytes);
        drop(arena);
        assert_eq!(pool.stats().live, 0);
        Ok(())
    }

    #[test]
    fn blocks_that_touch_stay_two() -> Result<()> {
        let pool = Pool::new(Arc::new(Emulated::new(Default::default())), None, true);
        let arena = Arena::new(&pool);
        drop(arena.allocate(1024)?);
        let mut reserved = Reserved { blocks: vec![arena.allocate(512)?, arena.allocate(512)?], ..Reserved::default() };
        let [low, high] = [reserved.blocks[0].address, reserved.blocks[1].address];
        assert_eq!(low + 512, high);
        for order in [[low, high], [high, low]] {
            order.into_iter().for_each(|address| reserved.give_back(address, 512));
            assert_eq!(std::mem::take(&mut reserved.free), BTreeMap::from([(low, 512), (high, 512)]));
        }
        Ok(())
    }
}
