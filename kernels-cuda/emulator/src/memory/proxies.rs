//! What the asynchronous proxy (bulk copies, `wgmma`) must know of shared memory: who wrote through the generic proxy and has not fenced it off,
//! which swizzle a tile was written with, and what is still being read.

use crate::numeric::swizzle::Swizzle;

/// The bytes that bulk copies and matrix descriptors count in.
pub const CHUNK: u32 = 16;

/// The last write of a thread, by the number of fences before it; 0 for none that needs one.
#[derive(Clone, Copy, Default)]
struct Written {
    at: u32,
    thread: u32,
}

#[derive(Clone, Copy, Default)]
struct Chunk {
    /// Where a bulk copy wrote it: how.
    swizzle: Option<Swizzle>,
    /// Asynchronous reads that nobody has waited for.
    readers: u16,
}

/// The shared memory of a block as the asynchronous proxy sees it. Empty where a kernel has no such instructions.
#[derive(Default)]
pub struct Proxies {
    granules: Vec<Written>,
    chunks: Vec<Chunk>,
    shift: u32,
    /// Fences so far, and how many there were after the last one of each thread.
    now: u32,
    fenced: Vec<u32>,
}

impl Proxies {
    pub fn new(bytes: usize, granule: u32, threads: u32) -> Proxies {
        let shift = granule.trailing_zeros();
        Proxies {
            granules: vec![Written::default(); (bytes >> shift) + 1],
            chunks: vec![Chunk::default(); bytes / CHUNK as usize + 1],
            shift,
            now: 1,
            fenced: vec![0; threads.next_multiple_of(32) as usize],
        }
    }

    pub fn restart(&mut self) {
        self.granules.fill(Written::default());
        self.chunks.fill(Chunk::default());
        self.fenced.fill(0);
        self.now = 1;
    }

    /// Whether there is nothing to be asked.
    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn granules(&self, offset: u32, bytes: u32) -> std::ops::RangeInclusive<usize> {
        (offset >> self.shift) as usize..=((offset + bytes - 1) >> self.shift) as usize
    }

    fn chunks(offset: u32, bytes: u32) -> std::ops::RangeInclusive<usize> {
        (offset / CHUNK) as usize..=((offset + bytes - 1) / CHUNK) as usize
    }

    /// A thread writes through the generic proxy. Answers whether an asynchronous read of these bytes is under way.
    pub fn written(&mut self, offset: u32, bytes: u32, thread: u32) -> bool {
        if self.is_empty() {
            return false;
        }
        for at in self.granules(offset, bytes) {
            self.granules[at] = Written { at: self.now, thread };
        }
        let mut read = false;
        for at in Self::chunks(offset, bytes) {
            self.chunks[at].swizzle = None;
            read |= self.chunks[at].readers != 0;
        }
        read
    }

    /// `fence.proxy.async` of a thread: what it wrote may be read asynchronously from now on.
    pub fn fence(&mut self, thread: u32) {
        self.now += 1;
        if let Some(at) = self.fenced.get_mut(thread as usize) {
            *at = self.now;
        }
    }

    /// The thread whose generic write to these bytes no fence has followed.
    pub fn unfenced(&self, offset: u32, bytes: u32) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        self.granules(offset, bytes).find_map(|at| {
            let Written { at, thread } = self.granules[at];
            (at != 0 && self.fenced[thread as usize] <= at).then_some(thread)
        })
    }

    /// A bulk copy writes a chunk. Answers whether an asynchronous read of it is under way.
    pub fn copied(&mut self, offset: u32, swizzle: Swizzle) -> bool {
        if self.is_empty() {
            return false;
        }
        for at in self.granules(offset, CHUNK) {
            self.granules[at] = Written::default();
        }
        let chunk = &mut self.chunks[(offset / CHUNK) as usize];
        chunk.swizzle = Some(swizzle);
        chunk.readers != 0
    }

    /// How a bulk copy has written a chunk, if one has.
    pub fn swizzle(&self, offset: u32) -> Option<Swizzle> {
        self.chunks.get((offset / CHUNK) as usize).and_then(|chunk| chunk.swizzle)
    }

    /// An asynchronous read of a chunk begins.
    pub fn begin_read(&mut self, offset: u32) {
        if let Some(chunk) = self.chunks.get_mut((offset / CHUNK) as usize) {
            chunk.readers = chunk.readers.saturating_add(1);
        }
    }

    /// It has been waited for.
    pub fn end_read(&mut self, offset: u32) {
        if let Some(chunk) = self.chunks.get_mut((offset / CHUNK) as usize) {
            chunk.readers = chunk.readers.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_covers_what_its_own_thread_wrote_before() {
        let mut proxies = Proxies::new(64, 4, 64);
        assert!(!proxies.written(0, 4, 3) && !proxies.written(4, 4, 5));
        proxies.fence(5);
        assert_eq!((proxies.unfenced(4, 4), proxies.unfenced(0, 16)), (None, Some(3)));
        proxies.fence(3);
        assert_eq!(proxies.unfenced(0, 16), None);
        proxies.written(8, 4, 3);
        assert_eq!(proxies.unfenced(0, 16), Some(3));
    }

    #[test]
    fn a_chunk_that_is_read_is_not_written() {
        let mut proxies = Proxies::new(64, 8, 32);
        assert!(!proxies.copied(16, Swizzle::B64));
        assert_eq!(proxies.swizzle(16), Some(Swizzle::B64));
        proxies.begin_read(16);
        proxies.begin_read(16);
        proxies.end_read(16);
        assert!(proxies.copied(16, Swizzle::None) && proxies.written(24, 8, 0));
        proxies.end_read(16);
        assert!(!proxies.written(24, 8, 0));
        assert_eq!(proxies.swizzle(16), None);
    }
}
