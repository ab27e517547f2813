//! Registers that warps give back and take: `setmaxnreg`.

use super::block::Block;
use super::warp::{State, Warp};
use super::{Step, stop_first};
use crate::fault::FaultKind;

/// Registers of a multiprocessor, and the most and fewest of a thread.
const ALL: u32 = 65_536;
const MOST: u32 = 255;
const LEAST: u32 = 24;
const MOST_AFTER: u32 = 256;

/// The registers of a block's threads, warp by warp, and those that nobody has, for each block of a cluster. The assembler gives a kernel with `setmaxnreg` as many as
/// its block can have.
#[derive(Default)]
pub struct Quota {
    free: Vec<u32>,
    of: Vec<u32>,
}

impl Quota {
    pub fn start(&mut self, threads: u32, warps: u32, blocks: u32) {
        let each = (ALL / threads.next_multiple_of(32)).min(MOST) / 8 * 8;
        self.free.clear();
        self.free.resize(blocks as usize, 0);
        self.of.clear();
        self.of.resize((warps * blocks) as usize, each);
    }
}

impl Warp {
    /// Answers whether the warp can go on; if not, it tries again.
    pub fn set_registers(&mut self, block: &mut Block<'_>, wanted: u32, more: bool, mask: u32) -> Step<bool> {
        let quota = &mut block.quota;
        let has = quota.of.get(self.index as usize).copied().unwrap_or(0);
        let legal = wanted.is_multiple_of(8) && (LEAST..=MOST_AFTER).contains(&wanted);
        // Without a bound on its threads the assembler ignores the instruction.
        let bounded = block.grid.kernel.max_threads.is_some();
        if !legal || !bounded || (if more { wanted < has } else { wanted > has }) {
            return stop_first(mask, FaultKind::Registers { wanted, has });
        }
        let free = &mut quota.free[self.rank as usize];
        if wanted > has && wanted - has > *free {
            self.yields = true;
            self.state = State::Ready;
            self.stuck = Some((self.flow.pc, FaultKind::Registers { wanted, has }));
            return Ok(false);
        }
        self.stuck = None;
        *free = *free + has - wanted;
        quota.of[self.index as usize] = wanted;
        block.changes += 1;
        Ok(true)
    }
}
