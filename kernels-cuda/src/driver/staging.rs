//! Copies between the host and a device through pinned memory, the only kind that a device reads and writes on its own.
//!
//! Two buffers take turns, so that the host fills or empties one while the device copies the other. An upload returns when its bytes have left the
//! caller's memory; a download when they have arrived.

use tubelet_engine::Result;

/// Bytes of one buffer: long enough that starting a copy costs nothing beside it.
pub const CHUNK: usize = 4 << 20;

/// A pinned buffer, and the copy that uses it, of which there is at most one: whoever starts another, or touches the buffer, has waited.
pub trait Lane {
    /// The buffer.
    fn buffer(&mut self) -> &mut [u8];
    /// Starts to copy the buffer's first `bytes` bytes to `address`, after all work before.
    fn send(&mut self, bytes: usize, address: u64) -> Result<()>;
    /// Starts to copy `bytes` bytes from `address` to the buffer's beginning, after all work before.
    fn fetch(&mut self, address: u64, bytes: usize) -> Result<()>;
    /// Waits for the copy that was started last.
    fn wait(&mut self) -> Result<()>;
}

/// Two lanes, of buffers of the same size.
pub struct Staging<L> {
    lanes: [L; 2],
    /// Whose turn it is.
    next: usize,
}

impl<L: Lane> Staging<L> {
    pub fn new(lanes: [L; 2]) -> Self {
        Staging { lanes, next: 0 }
    }

    /// The lane whose turn it is, free to use.
    fn turn(&mut self) -> Result<&mut L> {
        let lane = &mut self.lanes[self.next];
        self.next = 1 - self.next;
        lane.wait()?;
        Ok(lane)
    }

    /// Copies `src` to `address`. The copy may still be under way on return; `src` is not needed for it any more.
    pub fn upload(&mut self, src: &[u8], address: u64) -> Result<()> {
        let size = self.lanes[0].buffer().len();
        for (i, chunk) in src.chunks(size).enumerate() {
            let lane = self.turn()?;
            lane.buffer()[..chunk.len()].copy_from_slice(chunk);
            lane.send(chunk.len(), address + (i * size) as u64)?;
        }
        Ok(())
    }

    /// Copies from `address` to `dst`, and waits for it.
    pub fn download(&mut self, address: u64, dst: &mut [u8]) -> Result<()> {
        let size = self.lanes[0].buffer().len();
        let lengths: Vec<usize> = dst.chunks(size).map(<[u8]>::len).collect();
        let start = |staging: &mut Self, i: usize| match lengths.get(i) {
            Some(&bytes) => staging.turn()?.fetch(address + (i * size) as u64, bytes),
            None => Ok(()),
        };
        start(self, 0)?;
        let mut emptied = 1 - self.next;
        for (i, chunk) in dst.chunks_mut(size).enumerate() {
            start(self, i + 1)?;
            let lane = &mut self.lanes[emptied];
            lane.wait()?;
            chunk.copy_from_slice(&lane.buffer()[..chunk.len()]);
            emptied = 1 - emptied;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    enum Copy {
        Send(usize, u64),
        Fetch(u64, usize),
    }

    /// A device that copies as late as it may: when somebody waits. What was overwritten by then shows.
    struct Late {
        buffer: Vec<u8>,
        memory: Rc<RefCell<Vec<u8>>>,
        pending: Option<Copy>,
        /// Of both lanes: the most copies that were under way at once.
        most: Rc<RefCell<(usize, usize)>>,
    }

    impl Late {
        fn start(&mut self, copy: Copy) {
            assert!(self.pending.replace(copy).is_none(), "one copy of a buffer at a time");
            let (now, most) = &mut *self.most.borrow_mut();
            *now += 1;
            *most = (*most).max(*now);
        }
    }

    impl Lane for Late {
        fn buffer(&mut self) -> &mut [u8] {
            &mut self.buffer
        }
        fn send(&mut self, bytes: usize, address: u64) -> Result<()> {
            self.start(Copy::Send(bytes, address));
            Ok(())
        }
        fn fetch(&mut self, address: u64, bytes: usize) -> Result<()> {
            self.start(Copy::Fetch(address, bytes));
            Ok(())
        }
        fn wait(&mut self) -> Result<()> {
            let mut memory = self.memory.borrow_mut();
            match self.pending.take() {
                Some(Copy::Send(n, at)) => memory[at as usize..][..n].copy_from_slice(&self.buffer[..n]),
                Some(Copy::Fetch(at, n)) => self.buffer[..n].copy_from_slice(&memory[at as usize..][..n]),
                None => return Ok(()),
            }
            self.most.borrow_mut().0 -= 1;
            Ok(())
        }
    }

    #[test]
    fn chunks_take_turns_and_nothing_is_overwritten_too_early() -> Result<()> {
        let (memory, most) = (Rc::new(RefCell::new(vec![0; 100])), Rc::new(RefCell::new((0, 0))));
        let lane = || Late { buffer: vec![0; 8], memory: Rc::clone(&memory), pending: None, most: Rc::clone(&most) };
        let mut staging = Staging::new([lane(), lane()]);
        let data: Vec<u8> = (1..=100).collect();
        // Sizes below, at and beyond a buffer's, an odd and an even number of chunks, one after the other through the same lanes.
        let mut at = 0;
        for bytes in [1, 8, 9, 16, 43, 23] {
            staging.upload(&data[at..at + bytes], at as u64)?;
            at += bytes;
        }
        assert_eq!(*most.borrow(), (2, 2), "both lanes were busy, and still are");
        for bytes in [0, 1, 8, 9, 16, 43, 100] {
            // Late lanes copy in the order of the waits, where a stream copies in the order of the calls.
            staging.lanes.iter_mut().try_for_each(Late::wait)?;
            let mut back = vec![0; bytes];
            staging.download((100 - bytes) as u64, &mut back)?;
            assert_eq!(back, data[100 - bytes..]);
        }
        assert_eq!(*memory.borrow(), data);
        Ok(())
    }
}
