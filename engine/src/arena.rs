//! Blocks cut from regions of address space: the smallest free range that a block fits into, neighbours joined when they are freed.
//!
//! A training step's tensors have other sizes on the way back than on the way there. Recycled by size they need other pages for each, or far more
//! memory than is ever live; cut from ranges that join, the tensors of training steps of the four systems lie within 1.02 to 1.06 times what is
//! live at once (their allocations, recorded and placed by these rules), and after the first step no page is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr::NonNull,
};

use crate::pages;

/// Where something begins: in which region, and how many bytes into it. Ranges of two regions never join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    region: usize,
    offset: usize,
}

/// Memory of a caller's.
#[derive(Debug)]
pub(crate) struct Block {
    place: Place,
    size: usize,
    start: NonNull<u8>,
}

// SAFETY: plain memory, which is its holder's alone.
unsafe impl Send for Block {}
// SAFETY: as above; what is written through the pointer is its holder's to synchronise.
unsafe impl Sync for Block {}

impl Block {
    /// The first byte, on a multiple of the arena's unit.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes: what was asked for, in whole units.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// Address space from the system, which backs it by pages where it is written.
struct Region {
    start: NonNull<u8>,
    bytes: usize,
    /// So many bytes from the start have been in blocks. What follows has no pages yet.
    used: usize,
}

// SAFETY: a region is owned by its arena alone.
unsafe impl Send for Region {}

/// Bytes that are nobody's.
#[derive(Clone, Copy)]
struct Range {
    size: usize,
    /// So many of them have pages, at most.
    backed: usize,
}

/// Regions, and what of them is free.
pub(crate) struct Arena {
    /// Blocks are multiples of it, and lie on multiples of it.
    unit: usize,
    /// Bytes of a region, unless a block has more.
    region: usize,
    regions: BTreeMap<usize, Region>,
    free: BTreeMap<Place, Range>,
    /// The same ranges by size.
    sizes: BTreeSet<(usize, Place)>,
    backed: usize,
}

impl Arena {
    /// Nothing yet. `unit` is a power of two of at least [`pages::ALIGN`].
    pub fn new(unit: usize, region: usize) -> Self {
        let (regions, free, sizes) = Default::default();
        Arena { unit, region, regions, free, sizes, backed: 0 }
    }

    /// Bytes of free ranges that hold pages, at most.
    pub fn backed(&self) -> usize {
        self.backed
    }

    /// A block of at least `bytes` bytes of arbitrary content; `None` if the system has no more.
    pub fn allocate(&mut self, bytes: usize) -> Option<Block> {
        let size = bytes.max(1).checked_next_multiple_of(self.unit)?;
        let first = Place { region: 0, offset: 0 };
        let place = match self.sizes.range((size, first)..).next() {
            Some(&(_, place)) => {
                self.cut(place, size);
                place
            }
            None => self.extend(size)?,
        };
        let region = self.regions.get(&place.region)?;
        // SAFETY: the place lies within its region.
        let start = unsafe { region.start.add(place.offset) };
        Some(Block { place, size, start })
    }

    /// Takes the first `size` bytes of the free range at `place`.
    fn cut(&mut self, place: Place, size: usize) {
        let range = self.remove(place);
        if range.size > size {
            let left = range.size - size;
            self.insert(Place { offset: place.offset + size, ..place }, Range { size: left, backed: range.backed.min(left) });
        }
    }

    /// `size` bytes at the end of what is used of a region, with the free range that may stand there; of a new region if no other has room.
    fn extend(&mut self, size: usize) -> Option<Place> {
        for (&region, &Region { bytes, used, .. }) in &self.regions {
            let last = self.free.range(..Place { region, offset: used }).next_back();
            let tail = last.filter(|(place, range)| place.region == region && place.offset + range.size == used);
            let offset = tail.map_or(used, |(place, _)| place.offset);
            if bytes - offset >= size {
                if let Some((&place, _)) = tail {
                    self.remove(place);
                }
                self.regions.get_mut(&region)?.used = offset + size;
                return Some(Place { region, offset });
            }
        }
        let region = self.regions.last_key_value().map_or(0, |(&last, _)| last + 1);
        // Where address space is rationed, as much as is needed now.
        let try_of = |bytes| pages::reserve(bytes).map(|start| Region { start, bytes, used: size });
        let new = try_of(size.max(self.region)).or_else(|| try_of(size))?;
        self.regions.insert(region, new);
        Some(Place { region, offset: 0 })
    }

    /// Takes a block back.
    pub fn free(&mut self, block: &Block) {
        let (mut place, mut range) = (block.place, Range { size: block.size, backed: block.size });
        let after = Place { offset: place.offset + range.size, ..place };
        if self.free.contains_key(&after) {
            let next = self.remove(after);
            range = Range { size: range.size + next.size, backed: range.backed + next.backed };
        }
        let before = self.free.range(..place).next_back().map(|(&before, range)| (before, range.size));
        if let Some((before, size)) = before
            && (Place { offset: before.offset + size, ..before }) == place
        {
            let previous = self.remove(before);
            range = Range { size: range.size + previous.size, backed: range.backed + previous.backed };
            place = before;
        }
        self.insert(place, range);
    }

    /// Gives pages of free ranges back to the system, of the largest first, until at most `backed` bytes have some, or none can be given.
    pub fn shrink(&mut self, backed: usize) {
        if self.backed <= backed {
            return;
        }
        let largest: Vec<Place> = self.sizes.iter().rev().map(|&(_, place)| place).collect();
        for place in largest {
            if self.backed <= backed {
                return;
            }
            self.discard(place);
        }
    }

    fn discard(&mut self, place: Place) {
        let (Some(region), Some(range)) = (self.regions.get(&place.region), self.free.get_mut(&place)) else { return };
        if range.backed < pages::DISCARDED {
            return;
        }
        // SAFETY: the range lies within its region, and is nobody's.
        let given = unsafe { pages::discard(region.start.add(place.offset), range.size) };
        let left = range.backed.min(range.size - given);
        self.backed -= range.backed - left;
        range.backed = left;
    }

    /// Gives back what can be given: regions without blocks, and pages of the others.
    pub fn trim(&mut self) {
        let empty = |(&region, Region { used, .. }): (&usize, &Region)| {
            let first = self.free.get(&Place { region, offset: 0 });
            first.filter(|range| range.size == *used).map(|_| region)
        };
        let empty: Vec<usize> = self.regions.iter().filter_map(empty).collect();
        for region in empty {
            self.remove(Place { region, offset: 0 });
            if let Some(Region { start, bytes, .. }) = self.regions.remove(&region) {
                // SAFETY: reserved with this size, and none of it is in a block.
                unsafe { pages::release(start, bytes) };
            }
        }
        self.shrink(0);
    }

    fn insert(&mut self, place: Place, range: Range) {
        self.sizes.insert((range.size, place));
        self.backed += range.backed;
        self.free.insert(place, range);
    }

    /// The free range at `place`, no longer free.
    fn remove(&mut self, place: Place) -> Range {
        let range = self.free.remove(&place).unwrap_or(Range { size: 0, backed: 0 });
        self.sizes.remove(&(range.size, place));
        self.backed -= range.backed;
        range
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for Region { start, bytes, .. } in self.regions.values() {
            // SAFETY: reserved with this size; blocks do not outlive the pool whose arena this is.
            unsafe { pages::release(*start, *bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Philox;

    const UNIT: usize = 64;

    /// Blocks never overlap, hold what was written to them, lie in as many bytes as are accounted for, and are one range again in the end.
    #[test]
    fn blocks_are_apart_and_join_again() {
        for seed in 0..200 {
            for region in [UNIT, 4096, 1 << 20] {
                follow(&mut Philox::new(seed), region);
            }
        }
    }

    fn follow(draws: &mut Philox, region: usize) {
        let mut arena = Arena::new(UNIT, region);
        let mut live: Vec<(Block, u8)> = Vec::new();
        for i in 0..draws.below(80) {
            let (take, n) = (draws.below(2) == 0, draws.below(3000));
            if take || live.is_empty() {
                let block = arena.allocate(n).unwrap();
                assert!(block.size() >= n && block.size() < n.max(1) + UNIT);
                assert_eq!(block.start().addr().get() % UNIT, 0);
                // SAFETY: the block is ours.
                unsafe { block.start().as_ptr().write_bytes(i as u8, block.size()) };
                live.push((block, i as u8));
            } else {
                let (block, value) = live.swap_remove(n % live.len());
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts(block.start().as_ptr(), block.size()) };
                assert!(bytes.iter().all(|&b| b == value));
                arena.free(&block);
            }
            let used: usize = arena.regions.values().map(|region| region.used).sum();
            let held: usize = live.iter().map(|(block, _)| block.size()).sum();
            let free: usize = arena.free.values().map(|range| range.size).sum();
            assert_eq!(used, held + free);
            assert_eq!(arena.backed(), arena.free.values().map(|range| range.backed).sum::<usize>());
            assert_eq!(arena.sizes.len(), arena.free.len());
        }
        live.iter().for_each(|(block, _)| arena.free(block));
        assert_eq!(arena.free.len(), arena.regions.len(), "all neighbours are joined");
        arena.trim();
        assert!(arena.regions.is_empty() && arena.backed() == 0);
    }

    #[test]
    fn the_smallest_range_that_fits_is_taken() {
        let mut arena = Arena::new(UNIT, 1 << 20);
        let blocks: Vec<Block> = [640, 64, 256, 64, 320, 64].into_iter().map(|n| arena.allocate(n).unwrap()).collect();
        for i in [0, 2, 4] {
            arena.free(&blocks[i]);
        }
        assert_eq!(arena.allocate(250).unwrap().start(), blocks[2].start());
        assert_eq!(arena.allocate(257).unwrap().start(), blocks[4].start());
        assert_eq!(arena.allocate(128).unwrap().start(), blocks[0].start());
        let rest = arena.allocate(512).unwrap().start();
        assert_eq!(rest.addr().get(), blocks[0].start().addr().get() + 128, "what a cut leaves is free");
        assert_eq!(arena.free.len(), 0);
    }

    #[test]
    fn pages_of_free_ranges_go_back() {
        let large = 4 * pages::DISCARDED;
        let mut arena = Arena::new(UNIT, 64 * large);
        let (first, second) = (arena.allocate(large).unwrap(), arena.allocate(2 * large).unwrap());
        arena.free(&second);
        arena.shrink(2 * large);
        assert_eq!(arena.backed(), 2 * large, "within what may be kept");
        arena.shrink(0);
        assert!(arena.backed() < pages::DISCARDED, "only what huge pages have in common with a block: {}", arena.backed());
        arena.free(&first);
        assert_eq!(arena.free.len(), 1);
        assert!(arena.backed() >= large && arena.backed() < large + pages::DISCARDED);
    }
}
