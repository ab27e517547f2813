//! Device memory: buffers from a caching pool, uploads and downloads.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use tubelet_engine::{DType, DeviceBuffer, Error, MemoryStats, Result, Tensor};
use wgpu::{BufferDescriptor, BufferUsages, Features};

use crate::{device::Wgpu, recorder::STAGED};

/// Copies and bindings are of whole words.
const WORD: usize = 4;
/// Blocks are recycled within size classes of at most 1/8 waste.
fn size_class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(256);
    bytes.div_ceil(step).max(1) * step
}

#[derive(Default)]
struct State {
    stats: MemoryStats,
    free: HashMap<usize, Vec<wgpu::Buffer>>,
}

/// A caching allocator. Every tensor has a buffer of its own: WebGPU forbids to read and write one buffer in the same launch.
pub(crate) struct Pool {
    device_name: String,
    device: wgpu::Device,
    largest: u64,
    state: Mutex<State>,
}

impl Pool {
    pub fn new(device_name: String, device: wgpu::Device, limit: Option<usize>, largest: u64) -> Arc<Self> {
        let stats = MemoryStats { limit, ..MemoryStats::default() };
        Arc::new(Pool { device_name, device, largest, state: Mutex::new(State { stats, free: HashMap::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stats(&self) -> MemoryStats {
        self.lock().stats
    }

    pub fn reset_peak(&self) {
        let mut state = self.lock();
        state.stats.peak = state.stats.live;
    }

    pub fn trim(&self) {
        let mut state = self.lock();
        state.free.clear();
        state.stats.cached = 0;
    }

    /// A buffer of `bytes` bytes of arbitrary content.
    pub fn allocate(self: &Arc<Self>, bytes: usize) -> Result<GpuBuffer> {
        if bytes as u64 > self.largest {
            let message = format!("a tensor of {bytes} bytes; this adapter binds at most {}", self.largest);
            return Err(Error::Device { device: self.device_name.clone(), message });
        }
        let class = size_class(bytes).min(self.largest as usize);
        let mut state = self.lock();
        let (live, limit) = (state.stats.live, state.stats.limit);
        let refusal = || Error::OutOfMemory { device: self.device_name.clone(), requested: bytes, live, limit };
        if limit.is_some_and(|limit| live.saturating_add(bytes) > limit) {
            return Err(refusal());
        }
        let buffer = match state.free.get_mut(&class).and_then(Vec::pop) {
            Some(buffer) => {
                state.stats.cached -= class;
                buffer
            }
            None => self.fresh(class, &mut state).ok_or_else(refusal)?,
        };
        state.stats.live += bytes;
        state.stats.peak = state.stats.peak.max(state.stats.live);
        drop(state);
        Ok(GpuBuffer { buffer: Some(buffer), class, bytes, pool: Arc::clone(self) })
    }

    /// A new buffer; where the driver has no memory left, again without what the pool has cached.
    fn fresh(&self, class: usize, state: &mut State) -> Option<wgpu::Buffer> {
        self.create(class).or_else(|| {
            state.free.clear();
            state.stats.cached = 0;
            self.create(class)
        })
    }

    fn create(&self, class: usize) -> Option<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer =
            self.device.create_buffer(&BufferDescriptor { label: None, size: class as u64, usage, mapped_at_creation: false });
        pollster::block_on(scope.pop()).is_none().then_some(buffer)
    }
}

/// A block of device memory. Dropping it returns it to its pool; kernels that were launched before still find it whole, because a new
/// owner's kernels come after them.
pub(crate) struct GpuBuffer {
    buffer: Option<wgpu::Buffer>,
    class: usize,
    bytes: usize,
    pool: Arc<Pool>,
}

impl GpuBuffer {
    /// The driver's buffer. It is there until the block is dropped.
    fn inner(&self) -> Option<&wgpu::Buffer> {
        self.buffer.as_ref()
    }
}

impl DeviceBuffer for GpuBuffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.stats.live -= self.bytes;
        state.stats.cached += self.class;
        state.free.entry(self.class).or_default().extend(self.buffer.take());
    }
}

impl Wgpu {
    /// The driver's buffer behind a device buffer.
    pub(crate) fn buffer<'a>(&self, buffer: &'a dyn DeviceBuffer) -> Result<&'a wgpu::Buffer> {
        let own = buffer.as_any().downcast_ref::<GpuBuffer>().filter(|own| Arc::ptr_eq(&own.pool, &self.pool));
        own.and_then(GpuBuffer::inner).ok_or_else(|| self.failed("the buffer belongs to another device"))
    }

    /// Whether elements share a word of which a shader sees no less: they are put in with an atomic `or`.
    pub(crate) fn is_packed(&self, dtype: DType) -> bool {
        match dtype {
            DType::U8 => true,
            DType::BF16 => !self.features.contains(Features::SHADER_I16),
            DType::F16 => !self.features.intersects(Features::SHADER_I16 | Features::SHADER_F16),
            _ => false,
        }
    }

    /// Fills a packed output with zeros, before kernels put its elements in.
    pub(crate) fn clear_packed(&self, output: &Tensor) -> Result<()> {
        if self.is_packed(output.dtype()) {
            let buffer = self.buffer(output.buffer())?;
            self.recorder().clear(self, buffer);
        }
        Ok(())
    }

    fn in_range(&self, buffer: &dyn DeviceBuffer, offset: usize, len: usize) -> Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= buffer.bytes()) {
            return Ok(());
        }
        Err(self.failed(format!("bytes {offset}..{offset}+{len} of a buffer of {}", buffer.bytes())))
    }

    /// Copies host bytes in, after everything that was launched before.
    pub(crate) fn write(&self, src: &[u8], dst: &dyn DeviceBuffer, offset: usize) -> Result<()> {
        self.in_range(dst, offset, src.len())?;
        let buffer = self.buffer(dst)?;
        if src.is_empty() {
            return Ok(());
        }
        let head = offset % WORD;
        if head == 0 && src.len().is_multiple_of(WORD) {
            self.put(src, buffer, offset);
        } else {
            let mut words = vec![0; (head + src.len()).next_multiple_of(WORD)];
            if offset != 0 || src.len() != dst.bytes() {
                let start = offset - head;
                let inside = words.len().min(dst.bytes() - start);
                self.read(dst, start, &mut words[..inside])?;
            }
            words[head..head + src.len()].copy_from_slice(src);
            self.put(&words, buffer, offset - head);
        }
        self.check()
    }

    fn put(&self, words: &[u8], buffer: &wgpu::Buffer, offset: usize) {
        let mut recorder = self.recorder();
        if words.len() <= STAGED {
            recorder.upload(self, words, buffer, offset as u64);
        } else {
            // The queue copies before the next submission: what was launched on the same memory has to go first.
            recorder.submit(self);
            self.queue.write_buffer(buffer, offset as u64, words);
        }
    }

    /// Waits for everything that was launched and copies out.
    pub(crate) fn read(&self, src: &dyn DeviceBuffer, offset: usize, dst: &mut [u8]) -> Result<()> {
        self.in_range(src, offset, dst.len())?;
        let buffer = self.buffer(src)?;
        if dst.is_empty() {
            return Ok(());
        }
        let head = offset % WORD;
        let size = (head + dst.len()).next_multiple_of(WORD) as u64;
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging =
            self.device.create_buffer(&BufferDescriptor { label: Some("download"), size, usage, mapped_at_creation: false });
        {
            let mut recorder = self.recorder();
            recorder.copy(self, buffer, (offset - head) as u64, &staging, size);
            recorder.submit(self);
        }
        let (outcome, arrived) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver waits below.
            let _ = outcome.send(result);
        });
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| self.failed(error.to_string()))?;
        self.check()?;
        // Another thread's poll may be the one that delivers it.
        let mapped = arrived.recv().map_err(|_| self.failed("the driver dropped a download"))?;
        mapped.map_err(|error| self.failed(error.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|error| self.failed(error.to_string()))?;
        dst.copy_from_slice(&view[head..head + dst.len()]);
        Ok(())
    }
}
