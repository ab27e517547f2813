//! Host memory: aligned buffers from a caching allocator with statistics, a limit, and guards for tests.

use std::{
    any::Any,
    collections::BTreeMap,
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    DeviceBuffer, Error, MemoryStats, Result,
    pages::{self, ALIGN},
};

/// The byte of guard zones; as a float of any width it is a NaN, so it also poisons outputs.
const POISON: u8 = 0xFF;
/// Blocks are recycled within size classes of at most 1/8 waste, and of 1/32 where a block can become one of another class.
fn size_class(bytes: usize) -> usize {
    let parts = if pages::resizable(bytes) { 32 } else { 8 };
    let step = (bytes.next_power_of_two() / parts).max(ALIGN);
    bytes.div_ceil(step) * step
}

/// What the pool may hold beyond what was ever live at once: a sixteenth of it within these bounds. The lower one is enough for an inference pass
/// never to ask the system twice. A training step's sizes are others on the way back than on the way there: one of TubeViT-B has 34,000 page
/// faults with 32 MiB, 24,000 with 64, and 16,000 with 88.
const SLACK: [usize; 2] = [32 << 20, 64 << 20];

#[derive(Default)]
struct State {
    stats: MemoryStats,
    /// Blocks by size class; no class without blocks.
    free: BTreeMap<usize, Vec<Block>>,
}

impl State {
    /// A free block of this class.
    fn recycle(&mut self, class: usize) -> Option<Block> {
        let blocks = self.free.get_mut(&class)?;
        let block = blocks.pop();
        if blocks.is_empty() {
            self.free.remove(&class);
        }
        self.stats.cached -= class;
        block
    }

    /// Whether a new block of `class` bytes is more than the pool may hold beside what it has.
    fn is_full(&self, class: usize) -> bool {
        let peak = self.stats.peak.max(self.stats.live + class);
        self.stats.live + self.stats.cached + class > peak + (peak / 16).clamp(SLACK[0], SLACK[1])
    }

    /// A cached block of another class made one of `class` bytes: the smallest that is larger, or else the largest.
    fn convert(&mut self, class: usize) -> Option<Block> {
        if !pages::resizable(class) {
            return None;
        }
        let larger = self.free.range(class..).next();
        let found = larger.or_else(|| self.free.range(..class).next_back()).map(|(&found, _)| found)?;
        if !pages::resizable(found) {
            return None;
        }
        let block = self.recycle(found)?;
        // SAFETY: made with this size, and no longer on the free list.
        unsafe { pages::resize(block.0, found, class) }.map(Block)
    }

    /// Gives cached blocks back to the system, the largest first, until a new one of `class` bytes fits within the peak.
    fn make_room(&mut self, class: usize) {
        while self.is_full(class) {
            let Some((&largest, _)) = self.free.last_key_value() else { return };
            if let Some(block) = self.recycle(largest) {
                // SAFETY: made with this size, and no longer on the free list.
                unsafe { pages::release(block.0, largest) };
            }
        }
    }
}

struct Block(NonNull<u8>);
// SAFETY: a block on the free list is owned by the list alone.
unsafe impl Send for Block {}

/// A caching allocator of host memory. Clones share one pool.
#[derive(Clone, Default)]
pub struct HostPool {
    state: Arc<Mutex<State>>,
    device: &'static str,
    guard: bool,
}

impl HostPool {
    /// `device` names the pool's device in errors. With `guard`, new buffers are filled with NaN, fenced with canaries on both
    /// sides, and checked when they are dropped: a kernel that writes outside its output stops the test.
    pub fn new(device: &'static str, limit: Option<usize>, guard: bool) -> Self {
        let pool = HostPool { state: Arc::default(), device, guard };
        pool.lock().stats.limit = limit;
        pool
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of `bytes` bytes of arbitrary content.
    pub fn allocate(&self, bytes: usize) -> Result<HostBuffer> {
        let fence = if self.guard { ALIGN } else { 0 };
        let padded = bytes.checked_add(2 * fence).filter(|&n| n <= isize::MAX as usize / 2);
        let class = size_class(padded.ok_or_else(|| Error::Overflow { what: format!("a buffer of {bytes} bytes") })?);
        let mut state = self.lock();
        let live = state.stats.live;
        let refusal = Error::OutOfMemory { device: self.device.into(), requested: bytes, live, limit: state.stats.limit };
        if state.stats.limit.is_some_and(|limit| live.saturating_add(bytes) > limit) {
            return Err(refusal);
        }
        let block = match state.recycle(class) {
            Some(block) => block.0,
            None if state.is_full(class) => {
                let converted = state.convert(class);
                state.make_room(class);
                converted.map(|block| block.0).or_else(|| pages::allocate(class)).ok_or(refusal)?
            }
            None => pages::allocate(class).ok_or(refusal)?,
        };
        state.stats.live += bytes;
        state.stats.peak = state.stats.peak.max(state.stats.live);
        drop(state);
        if self.guard {
            // SAFETY: the block has `class` bytes and nobody else refers to it yet.
            unsafe { block.as_ptr().write_bytes(POISON, class) };
        }
        Ok(HostBuffer { block, class, bytes, fence, pool: self.clone() })
    }

    /// Statistics of the pool.
    pub fn stats(&self) -> MemoryStats {
        self.lock().stats
    }

    /// Starts a new peak from what is live now.
    pub fn reset_peak(&self) {
        let mut state = self.lock();
        state.stats.peak = state.stats.live;
    }

    /// Gives cached blocks back to the system.
    pub fn trim(&self) {
        let mut state = self.lock();
        let free = std::mem::take(&mut state.free);
        state.stats.cached = 0;
        for (class, blocks) in free {
            for block in blocks {
                // SAFETY: made with this size, and owned by the free list that was just taken.
                unsafe { pages::release(block.0, class) };
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for (class, blocks) in std::mem::take(&mut self.free) {
            for block in blocks {
                // SAFETY: made with this size, and owned by the free list.
                unsafe { pages::release(block.0, class) };
            }
        }
    }
}

/// A block of host memory, 64-byte aligned. Dropping it returns it to its pool.
pub struct HostBuffer {
    block: NonNull<u8>,
    class: usize,
    bytes: usize,
    fence: usize,
    pool: HostPool,
}

// SAFETY: the block is plain memory; kernels write it only while they alone know the output tensor, and
// synchronise before it is read (see `Backend::run`).
unsafe impl Send for HostBuffer {}
// SAFETY: as above.
unsafe impl Sync for HostBuffer {}

impl HostBuffer {
    /// The first byte. Valid for reads of [`DeviceBuffer::bytes`] bytes, and for writes while the caller is the only user.
    pub fn ptr(&self) -> *mut u8 {
        // SAFETY: the block has at least `fence` bytes in front.
        unsafe { self.block.as_ptr().add(self.fence) }
    }

    fn fences_intact(&self) -> bool {
        // SAFETY: the block has `class` bytes, initialised by the poison.
        let all = unsafe { std::slice::from_raw_parts(self.block.as_ptr(), self.class) };
        all[..self.fence].iter().chain(&all[self.fence + self.bytes..]).all(|&b| b == POISON)
    }
}

impl DeviceBuffer for HostBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        let broken = self.fence != 0 && !self.fences_intact();
        let mut state = self.pool.lock();
        state.stats.live -= self.bytes;
        state.stats.cached += self.class;
        state.free.entry(self.class).or_default().push(Block(self.block));
        drop(state);
        assert!(!broken || std::thread::panicking(), "a kernel wrote outside its output of {} bytes", self.bytes);
    }
}

/// The host buffer behind a device buffer; an error if it belongs to another kind of device.
pub(crate) fn host<'a>(device: &str, buffer: &'a dyn DeviceBuffer) -> Result<&'a HostBuffer> {
    let message = "the buffer is not in host memory".to_string();
    buffer.as_any().downcast_ref().ok_or_else(|| Error::Device { device: device.into(), message })
}

fn in_range(device: &str, buffer: &dyn DeviceBuffer, offset: usize, len: usize) -> Result<()> {
    if offset.checked_add(len).is_some_and(|end| end <= buffer.bytes()) {
        return Ok(());
    }
    let message = format!("bytes {offset}..{offset}+{len} of a buffer of {}", buffer.bytes());
    Err(Error::Device { device: device.into(), message })
}

/// [`crate::Backend::upload`] for backends in host memory.
pub(crate) fn upload(device: &str, src: &[u8], dst: &dyn DeviceBuffer, offset: usize) -> Result<()> {
    in_range(device, dst, offset, src.len())?;
    let at = host(device, dst)?.ptr();
    // SAFETY: the range was checked, and a tensor is uploaded to before anybody reads it.
    unsafe { at.add(offset).copy_from_nonoverlapping(src.as_ptr(), src.len()) };
    Ok(())
}

/// [`crate::Backend::download`] for backends in host memory.
pub(crate) fn download(device: &str, src: &dyn DeviceBuffer, offset: usize, dst: &mut [u8]) -> Result<()> {
    in_range(device, src, offset, dst.len())?;
    let at = host(device, src)?.ptr();
    // SAFETY: the range was checked, and host kernels have finished when they return.
    unsafe { at.add(offset).copy_to_nonoverlapping(dst.as_mut_ptr(), dst.len()) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_reused_and_counted() {
        let pool = HostPool::new("test", Some(1000), false);
        let a = pool.allocate(600).unwrap();
        let at = a.ptr();
        assert!(matches!(pool.allocate(600), Err(Error::OutOfMemory { live: 600, limit: Some(1000), .. })));
        drop(a);
        assert_eq!(pool.stats(), MemoryStats { live: 0, peak: 600, cached: 640, limit: Some(1000) });
        let b = pool.allocate(590).unwrap();
        assert_eq!((b.ptr(), pool.stats().cached), (at, 0));
        assert_eq!(b.ptr() as usize % ALIGN, 0);
    }

    #[test]
    fn no_more_is_held_than_was_live_at_once() {
        let (pool, large) = (HostPool::new("test", None, false), SLACK[0] + 1);
        let all: Vec<_> = (0..4).map(|_| pool.allocate(large).unwrap()).collect();
        drop(all);
        let class = size_class(large);
        assert_eq!(pool.stats().cached, 4 * class);
        // Of another class: one of the four goes, for three and this one make more than the four that were live and the slack.
        let other = pool.allocate(3 * SLACK[0]).unwrap();
        let held = pool.stats().cached + pool.stats().live;
        assert!(held <= 4 * large + SLACK[0], "{held}");
        assert!(pool.stats().cached >= class, "not all of them");
        drop(other);
    }

    #[test]
    fn absurd_sizes_are_errors() {
        let pool = HostPool::default();
        assert!(pool.allocate(usize::MAX).is_err());
        assert!(pool.allocate(isize::MAX as usize / 2 - 4096).is_err());
    }

    #[test]
    #[should_panic(expected = "outside its output")]
    fn a_write_past_the_end_is_caught() {
        let buffer = HostPool::new("test", None, true).allocate(100).unwrap();
        // SAFETY: inside the block, outside the buffer: the fault to be caught.
        unsafe { buffer.ptr().add(100).write(0) };
    }
}
