//! `cp.async`: bytes that arrive when the thread waits for them.
//!
//! The bytes are copied at once, but marked as in flight: whoever reads or writes them before the thread that copies has waited gets a fault.
//! For other threads the copy is a write at the time of the wait, so that they need a barrier after it.

use super::access::{Part, addresses};
use super::block::Block;
use super::warp::Warp;
use super::{Step, stop};
use crate::fault::{FaultKind, Space};
use crate::memory::shadow::Touch;
use crate::memory::storage::lanes;
use crate::program::{Address, PredicateSource, Source};

/// A copy of one lane that nobody has waited for.
#[derive(Clone, Copy)]
struct Copy {
    lane: u8,
    bytes: u8,
    offset: u32,
    /// The number of its group among the groups of the lane.
    group: u32,
    /// The instruction.
    pc: u32,
}

/// The copies of a warp.
#[derive(Default)]
pub struct Copies {
    pending: Vec<Copy>,
    /// Groups that each lane has committed.
    committed: [u32; 32],
}

impl Copies {
    pub fn clear(&mut self) {
        self.pending.clear();
        self.committed = [0; 32];
    }

    pub fn commit(&mut self, mask: u32) {
        for lane in lanes(mask) {
            self.committed[lane] += 1;
        }
    }
}

/// The operands of a `cp.async`.
#[derive(Clone, Copy)]
pub struct CopyAsync {
    pub to: Address,
    pub from: Address,
    pub bytes: u32,
    pub size: Option<Source>,
    pub ignore: Option<PredicateSource>,
}

impl Warp {
    pub fn copy_async(&mut self, block: &mut Block<'_>, copy: CopyAsync, mask: u32) -> Step<()> {
        let CopyAsync { to, from, bytes, size, ignore } = copy;
        let (to, from) = (addresses(self, to), addresses(self, from));
        let ignored = ignore.map_or(0, |p| self.predicate(p));
        // So many bytes are read; the others become zeros.
        let sizes: [u32; 32] = std::array::from_fn(|lane| match size {
            _ if ignored >> lane & 1 == 1 => 0,
            Some(size) => self.source(size)[lane] as u32,
            None => bytes,
        });
        if let Some(lane) = lanes(mask).find(|&lane| sizes[lane] > bytes) {
            return stop(lane, FaultKind::BadArguments("a cp.async reads more than it writes".into()));
        }
        let target = block.part(Some(Space::Shared), &to, bytes, mask, self.index)?;
        let missing = mask & !target.mask;
        if missing != 0 {
            let lane = missing.trailing_zeros() as usize & 31;
            return stop(lane, FaultKind::OutOfBounds { space: Space::Shared, address: to[lane], bytes });
        }
        let offsets = target.offsets;
        block.check_in_flight(&offsets, mask, bytes)?;
        block.touch(&offsets, mask, bytes, Touch::Write, self)?;
        let values = self.fetch(block, &from, bytes, &sizes, mask)?;
        for lane in lanes(mask) {
            let (offset, group) = (offsets[lane], self.copies.committed[lane]);
            block.shared.write(offset as usize, &values[lane][..bytes as usize]);
            block.shared.mark_range(offset as usize, bytes as usize, true);
            self.copies.pending.push(Copy { lane: lane as u8, bytes: bytes as u8, offset, group, pc: self.flow.pc });
        }
        block.in_flight += bytes * mask.count_ones();
        super::traffic::shared(&mut block.counters, &offsets, mask, bytes);
        Ok(())
    }

    /// The bytes that each lane copies, zeros after those that are there.
    fn fetch(&self, block: &mut Block<'_>, from: &[u64; 32], bytes: u32, sizes: &[u32; 32], mask: u32) -> Step<[[u8; 16]; 32]> {
        let mut values = [[0; 16]; 32];
        // A lane that reads nothing may have any address.
        let mut rest = lanes(mask).fold(0, |set, lane| set | u32::from(sizes[lane] != 0) << lane);
        while rest != 0 {
            // Lanes that read the same number of bytes, usually all of them.
            let size = sizes[rest.trailing_zeros() as usize & 31];
            let alike = lanes(rest).fold(0, |set, lane| set | u32::from(sizes[lane] == size) << lane);
            let part = block.aligned_part(Some(Space::Global), from, (size, bytes), alike, self.index)?;
            rest &= !part.mask;
            for lane in lanes(part.mask) {
                let (offset, size) = (part.offsets[lane] as usize, sizes[lane] as usize);
                if let Some(at) = part.storage.first_unwritten(offset, size) {
                    let address = from[lane].wrapping_add((at - offset) as u64);
                    return stop(lane, FaultKind::Uninitialised { space: Space::Global, address });
                }
                part.storage.read(offset, &mut values[lane][..size]);
            }
            let Part { offsets, mask, .. } = part;
            super::traffic::global(&mut block.counters, &offsets, mask, size);
        }
        Ok(values)
    }

    /// Waits until `left` groups, or none and nothing uncommitted, are pending.
    pub fn wait_copies(&mut self, block: &mut Block<'_>, left: Option<u32>, mask: u32) -> Step<()> {
        let (index, copies) = (self.index, &mut self.copies);
        let mut raced = Ok(());
        let committed = copies.committed;
        copies.pending.retain(|copy| {
            let lane = usize::from(copy.lane);
            let done = match left {
                None => true,
                Some(left) => copy.group < committed[lane].saturating_sub(left),
            };
            if !done || mask >> lane & 1 == 0 {
                return true;
            }
            let bytes = u32::from(copy.bytes);
            block.shared.mark_range(copy.offset as usize, bytes as usize, false);
            block.in_flight -= bytes;
            if raced.is_ok() {
                raced = block.touch_one(copy.offset, bytes, Touch::Write, index * 32 + lane as u32, copy.pc);
            }
            false
        });
        raced
    }
}
