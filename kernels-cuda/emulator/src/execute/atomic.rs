//! Atomics: lane after lane, in order.

use super::access::{Part, addresses};
use super::block::Block;
use super::warp::Warp;
use super::{Step, stop, traffic};
use crate::fault::{FaultKind, Space};
use crate::memory::shadow::Touch;
use crate::memory::storage::{lanes, with_cell};
use crate::program::{Address, Combine, Source, Target};

/// The operands of an atomic.
#[derive(Clone, Copy)]
pub struct Atomic<'o> {
    pub to: Target,
    pub address: Address,
    pub d: Option<u32>,
    pub a: Source,
    pub b: Option<Source>,
    pub bytes: u32,
    pub combine: &'o Combine,
}

impl Warp {
    pub fn atomic(&mut self, block: &mut Block<'_>, atomic: Atomic<'_>, mask: u32) -> Step<()> {
        let Atomic { to, address, d, a, b, bytes, combine } = atomic;
        let all = addresses(self, address);
        let (a, b) = (*self.source(a), *self.source(b.unwrap_or(a)));
        let mut rest = mask;
        while rest != 0 {
            let part = block.part(to, &all, bytes, rest, self.index)?;
            rest &= !part.mask;
            if !matches!(part.space, Space::Global | Space::Shared) {
                let lane = part.mask.trailing_zeros().min(31) as usize;
                return stop(lane, FaultKind::OutOfBounds { space: part.space, address: all[lane], bytes });
            }
            for lane in lanes(part.mask) {
                let offset = part.offsets[lane] as usize;
                let old = with_cell!(bytes, C => part.storage.update::<C>(offset, |old| combine(old, a[lane], b[lane])));
                let Some(old) = old else { return Block::unwritten(&part, &all, 1 << lane, 0, bytes) };
                if let Some(d) = d {
                    self.registers[d as usize][lane] = old;
                }
            }
            let Part { space, offsets, mask, .. } = part;
            if space == Space::Global {
                traffic::global(&mut block.counters, &offsets, mask, bytes);
            } else {
                traffic::shared(&mut block.counters, &offsets, mask, bytes);
                block.touch(&offsets, mask, bytes, Touch::Atomic, self)?;
            }
        }
        Ok(())
    }
}
