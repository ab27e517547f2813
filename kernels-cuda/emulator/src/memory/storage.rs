//! Bytes with a mark beside each: whether anybody wrote it.
//!
//! Blocks run on several host threads and share global memory. Every access is a relaxed atomic of its own width, which costs what a plain
//! access costs, and makes a race in a kernel a wrong number instead of undefined behaviour of the emulator.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::program::Lanes;

/// The mark of a byte that was written.
const WRITTEN: u8 = 0xff;
/// The mark of a byte that an asynchronous copy writes and that nobody has waited for.
const IN_FLIGHT: u8 = 0x0f;

/// An integer that is accessed as a whole.
pub trait Cell: Sized {
    const BYTES: usize;
    /// All bytes marked as written.
    const FULL: u64 = if Self::BYTES == 8 { u64::MAX } else { (1 << (8 * Self::BYTES)) - 1 };
    fn get(&self) -> u64;
    fn set(&self, value: u64);
    /// Sets a new value where the old one still stands, and tells whether it did.
    fn exchange(&self, old: u64, new: u64) -> bool;
}

macro_rules! cell {
    ($atomic:ty, $plain:ty) => {
        impl Cell for $atomic {
            const BYTES: usize = size_of::<$plain>();

            fn get(&self) -> u64 {
                u64::from(<$plain>::from_le(self.load(Relaxed)))
            }

            fn set(&self, value: u64) {
                self.store((value as $plain).to_le(), Relaxed);
            }

            fn exchange(&self, old: u64, new: u64) -> bool {
                self.compare_exchange((old as $plain).to_le(), (new as $plain).to_le(), Relaxed, Relaxed).is_ok()
            }
        }
    };
}

cell!(AtomicU8, u8);
cell!(AtomicU16, u16);
cell!(AtomicU32, u32);
cell!(AtomicU64, u64);

/// Calls a generic function with the cell type of a width: 1, 2, 4 or 8.
macro_rules! with_cell {
    ($bytes:expr, $cell:ident => $call:expr) => {
        match $bytes {
            1 => {
                type $cell = std::sync::atomic::AtomicU8;
                $call
            }
            2 => {
                type $cell = std::sync::atomic::AtomicU16;
                $call
            }
            4 => {
                type $cell = std::sync::atomic::AtomicU32;
                $call
            }
            _ => {
                type $cell = std::sync::atomic::AtomicU64;
                $call
            }
        }
    };
}
pub(crate) use with_cell;

fn words(bytes: usize) -> Option<Vec<AtomicU64>> {
    let mut all = Vec::new();
    all.try_reserve_exact(bytes.div_ceil(8)).ok()?;
    all.resize_with(bytes.div_ceil(8), AtomicU64::default);
    Some(all)
}

/// The cell at a byte offset, which must be a multiple of its width.
fn view<C: Cell>(words: &[AtomicU64], offset: usize) -> &C {
    assert!(offset.is_multiple_of(C::BYTES) && offset / 8 < words.len());
    // SAFETY: the offset lies inside the words and is aligned to the cell, so the cell does not reach beyond its word; atomics of any
    // width have the layout of their integers, and all accesses to these bytes are atomic.
    unsafe { &*words.as_ptr().cast::<u8>().add(offset).cast::<C>() }
}

/// Memory of a fixed size.
pub struct Storage {
    data: Vec<AtomicU64>,
    marks: Vec<AtomicU64>,
    bytes: usize,
}

impl Storage {
    /// Unwritten bytes, zeros to whoever looks nevertheless; `None` where the host has not so much memory.
    pub fn new(bytes: usize) -> Option<Storage> {
        Some(Storage { data: words(bytes)?, marks: words(bytes)?, bytes })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets what was written.
    pub fn forget(&self) {
        for word in &self.marks {
            word.store(0, Relaxed);
        }
    }

    /// Calls `f` for each aligned piece of a range: bytes to the first word, words, bytes.
    fn pieces(&self, offset: usize, bytes: usize, mut f: impl FnMut(usize, usize)) {
        let mut at = 0;
        while at < bytes {
            let width = if (offset + at).is_multiple_of(8) && bytes - at >= 8 { 8 } else { 1 };
            f(at, width);
            at += width;
        }
    }

    /// Writes from the host; the caller has checked the range.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.pieces(offset, from.len(), |at, width| match width {
            8 => {
                let mut word = [0; 8];
                word.copy_from_slice(&from[at..at + 8]);
                self.put::<AtomicU64>(offset + at, u64::from_le_bytes(word));
            }
            _ => self.put::<AtomicU8>(offset + at, u64::from(from[at])),
        });
    }

    /// Reads to the host; the caller has checked the range.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        self.pieces(offset, to.len(), |at, width| match width {
            8 => to[at..at + 8].copy_from_slice(&self.value::<AtomicU64>(offset + at).to_le_bytes()),
            _ => to[at] = self.value::<AtomicU8>(offset + at) as u8,
        });
    }

    /// The first byte of a range that nobody wrote.
    pub fn first_unwritten(&self, offset: usize, bytes: usize) -> Option<usize> {
        let words = (offset..offset + bytes).step_by(8);
        if (offset | bytes).is_multiple_of(8) && words.into_iter().all(|at| self.mark::<AtomicU64>(at) == u64::MAX) {
            return None;
        }
        (offset..offset + bytes).find(|&at| self.mark::<AtomicU8>(at) != u64::from(WRITTEN))
    }

    /// Marks a range as written, or as about to be.
    pub fn mark_range(&self, offset: usize, bytes: usize, in_flight: bool) {
        let mark = u64::from(if in_flight { IN_FLIGHT } else { WRITTEN }) * 0x0101_0101_0101_0101;
        self.pieces(offset, bytes, |at, width| match width {
            8 => view::<AtomicU64>(&self.marks, offset + at).set(mark),
            _ => view::<AtomicU8>(&self.marks, offset + at).set(mark & 0xff),
        });
    }

    /// Whether any byte of a range is in flight.
    pub fn in_flight(&self, offset: usize, bytes: usize) -> bool {
        (offset..offset + bytes).any(|at| self.mark::<AtomicU8>(at) == u64::from(IN_FLIGHT))
    }

    fn mark<C: Cell>(&self, offset: usize) -> u64 {
        view::<C>(&self.marks, offset).get()
    }

    /// What stands there, written or not.
    pub fn value<C: Cell>(&self, offset: usize) -> u64 {
        view::<C>(&self.data, offset).get()
    }

    /// Writes one value and marks it.
    pub fn put<C: Cell>(&self, offset: usize, value: u64) {
        view::<C>(&self.data, offset).set(value);
        view::<C>(&self.marks, offset).set(C::FULL);
    }

    /// One value for each lane of a mask; the lanes whose value was not all written are returned.
    pub fn gather<C: Cell>(&self, offsets: &[u32; 32], shift: u32, mask: u32, to: &mut Lanes) -> u32 {
        let mut bad = 0;
        let mut one = |lane: usize| {
            let offset = (offsets[lane] + shift) as usize;
            to[lane] = self.value::<C>(offset);
            bad |= u32::from(self.mark::<C>(offset) != C::FULL) << lane;
        };
        match mask {
            u32::MAX => (0..32).for_each(one),
            _ => lanes(mask).for_each(&mut one),
        }
        bad
    }

    /// Writes one value for each lane of a mask, in the order of the lanes.
    pub fn scatter<C: Cell>(&self, offsets: &[u32; 32], shift: u32, mask: u32, from: &Lanes) {
        let one = |lane: usize| self.put::<C>((offsets[lane] + shift) as usize, from[lane]);
        match mask {
            u32::MAX => (0..32).for_each(one),
            _ => lanes(mask).for_each(one),
        }
    }

    /// Replaces a value by a function of it, in one step that no other host thread can divide; `None` where it was not written.
    pub fn update<C: Cell>(&self, offset: usize, f: impl Fn(u64) -> u64) -> Option<u64> {
        if self.mark::<C>(offset) != C::FULL {
            return None;
        }
        let cell = view::<C>(&self.data, offset);
        loop {
            let old = cell.get();
            if cell.exchange(old, f(old)) {
                return Some(old);
            }
        }
    }
}

/// The lanes of a mask, ascending.
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros();
        (lane < 32).then(|| {
            rest &= rest - 1;
            lane as usize
        })
    })
}
