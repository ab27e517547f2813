//! Host memory: aligned buffers from a caching allocator with statistics, a limit, and guards for tests.

use std::{
    any::Any,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    DeviceBuffer, Error, MemoryStats, Result,
    arena::{Arena, Block},
    pages::{ALIGN, REGION},
};

/// The byte of guard zones; as a float of any width it is a NaN, so it also poisons outputs.
const POISON: u8 = 0xFF;
/// Blocks from here on are multiples of it, so that scalars and small weights do not lie between activations.
const LARGE: usize = 64 << 10;
/// Memory for blocks below that.
const SMALL_REGION: usize = 1 << 20;
/// What the pool may hold beyond what was ever live at once is a sixteenth of it, and at least this: an inference pass never asks the system
/// twice, and neither does a training step, whose tensors lie in 1.06 times what is live.
const LEAST_SLACK: usize = 32 << 20;

struct State {
    stats: MemoryStats,
    /// The most that was ever live.
    most: usize,
    small: Arena,
    large: Arena,
}

impl Default for State {
    fn default() -> Self {
        let (small, large) = (Arena::new(ALIGN, SMALL_REGION), Arena::new(LARGE, REGION));
        State { stats: MemoryStats::default(), most: 0, small, large }
    }
}

impl State {
    /// Where blocks of so many bytes, fences included, are cut from.
    fn arena(&mut self, bytes: usize) -> &mut Arena {
        if bytes < LARGE { &mut self.small } else { &mut self.large }
    }

    /// Gives pages back that are more than the pool may hold beside what is live.
    fn shrink(&mut self) {
        let held = (self.most + (self.most / 16).max(LEAST_SLACK)).saturating_sub(self.stats.live);
        self.large.shrink(held.saturating_sub(self.small.backed()));
        self.small.shrink(held.saturating_sub(self.large.backed()));
    }
}

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
        let padded = padded.ok_or_else(|| Error::Overflow { what: format!("a buffer of {bytes} bytes") })?;
        let mut state = self.lock();
        let MemoryStats { live, limit, .. } = state.stats;
        let refusal = || Error::OutOfMemory { device: self.device.into(), requested: bytes, live, limit };
        if limit.is_some_and(|limit| live.saturating_add(bytes) > limit) {
            return Err(refusal());
        }
        let block = state.arena(padded).allocate(padded).ok_or_else(refusal)?;
        state.stats.live += bytes;
        state.stats.peak = state.stats.peak.max(state.stats.live);
        state.most = state.most.max(state.stats.live);
        state.shrink();
        drop(state);
        if self.guard {
            // SAFETY: the block has so many bytes and nobody else refers to it yet.
            unsafe { block.start().as_ptr().write_bytes(POISON, block.size()) };
        }
        Ok(HostBuffer { block, bytes, fence, pool: self.clone() })
    }

    /// Statistics of the pool.
    pub fn stats(&self) -> MemoryStats {
        let state = self.lock();
        MemoryStats { cached: state.small.backed() + state.large.backed(), ..state.stats }
    }

    /// Starts a new peak from what is live now.
    pub fn reset_peak(&self) {
        let mut state = self.lock();
        state.stats.peak = state.stats.live;
    }

    /// Gives what is not in use back to the system.
    pub fn trim(&self) {
        let mut state = self.lock();
        state.most = state.stats.live;
        state.small.trim();
        state.large.trim();
    }
}

/// A block of host memory, 64-byte aligned. Dropping it returns it to its pool.
pub struct HostBuffer {
    /// Kernels write it only while they alone know the output tensor, and synchronise before it is read (see `Backend::run`).
    block: Block,
    bytes: usize,
    fence: usize,
    pool: HostPool,
}

impl HostBuffer {
    /// The first byte. Valid for reads of [`DeviceBuffer::bytes`] bytes, and for writes while the caller is the only user.
    pub fn ptr(&self) -> *mut u8 {
        // SAFETY: the block has at least `fence` bytes in front.
        unsafe { self.block.start().as_ptr().add(self.fence) }
    }

    fn fences_intact(&self) -> bool {
        // SAFETY: the block has so many bytes, initialised by the poison.
        let all = unsafe { std::slice::from_raw_parts(self.block.start().as_ptr(), self.block.size()) };
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
        state.arena(self.bytes + 2 * self.fence).free(&self.block);
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
    fn little_more_is_held_than_was_live_at_once() {
        let pool = HostPool::new("test", None, false);
        let sizes = |of: usize| (0..8).map(|_| pool.allocate(of).unwrap()).collect::<Vec<_>>();
        let first = sizes(LEAST_SLACK + 1);
        let most = pool.stats().live;
        // Every other one stays, so that what follows fits into no gap.
        let kept: Vec<_> = first.into_iter().enumerate().filter(|(i, _)| i % 2 == 0).map(|(_, buffer)| buffer).collect();
        let larger = pool.allocate(4 * LEAST_SLACK).unwrap();
        let MemoryStats { live, cached, .. } = pool.stats();
        assert!(live + cached <= most + LEAST_SLACK + 8 * LARGE, "{live} and {cached} of {most}");
        drop((kept, larger));
        pool.trim();
        assert_eq!(pool.stats().cached, 0);
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
