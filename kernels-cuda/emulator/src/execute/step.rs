//! One instruction after the other.

use super::access::Load;
use super::atomic::Atomic;
use super::barrier::Arrival;
use super::block::Block;
use super::copies::CopyAsync;
use super::flow::{Stuck, Wanted};
use super::phase::PhaseOperands;
use super::warp::{State, Warp};
use super::{Step, stop, stop_first};
use crate::fault::{FaultKind, Space};
use crate::memory::storage::lanes;
use crate::program::{Code, Meeting, Op, PREDICATE, Source};

/// So many instructions, and other warps get their turn: one may wait in a loop for what another one does.
const SLICE: u64 = 1 << 14;

impl Warp {
    /// Executes until the warp waits or ends, or its turn is over.
    pub fn run(&mut self, block: &mut Block<'_>) -> Step<()> {
        let grid = block.grid;
        let limit = grid.options.instruction_limit.unwrap_or(u64::MAX);
        let until = self.executed.saturating_add(SLICE).min(limit);
        self.yields = false;
        while self.state == State::Ready && !self.yields {
            if self.executed >= until {
                return if self.executed < limit { Ok(()) } else { stop_first(self.flow.active, FaultKind::TooLong) };
            }
            self.executed += 1;
            self.step(&grid.kernel.code[self.flow.pc as usize], block)?;
        }
        Ok(())
    }

    fn step(&mut self, code: &Code, block: &mut Block<'_>) -> Step<()> {
        let active = self.flow.active;
        let mut mask = active;
        if let Some(guard) = code.guard {
            self.check(self.predicate_defined(guard), active, 0)?;
            mask &= self.predicate(guard);
        }
        if together(&code.op) && mask != 0 && !self.assemble(code, mask)? {
            return Ok(());
        }
        block.tally[code.class as usize] += 1;
        block.counters.lane_instructions += u64::from(mask.count_ones());
        for &slot in &code.reads {
            self.check(self.written(slot), mask, slot)?;
        }
        if mask != 0 {
            if let Some(watched) = &code.watched {
                self.watch(watched, &code.op, mask)?;
            }
            match &code.op {
                Op::Branch { to } => return self.branch(&[(*to, mask)], active & !mask, code.join, block),
                Op::BranchIndexed { index, targets } => return self.branch_indexed(*index, targets, mask, code.join, block),
                Op::Exit => return self.exit(mask, block),
                Op::Trap => return stop_first(mask, FaultKind::Trap),
                &Op::Barrier { meeting, id, count, p, .. } => {
                    self.arrive(block, Arrival { meeting, id, count, p }, mask)?;
                    if meeting != Meeting::Arrive {
                        return Ok(());
                    }
                }
                &Op::SetRegisters { count, more } => {
                    if !self.set_registers(block, count, more, mask)? {
                        return Ok(());
                    }
                }
                Op::ClusterArrive => self.arrive_at_cluster(block, mask)?,
                Op::ClusterWait => {
                    if !self.wait_for_cluster(block, mask)? {
                        return Ok(());
                    }
                }
                op => self.execute(op, mask, block)?,
            }
            for &slot in &code.writes {
                self.mark(slot, mask);
            }
        }
        let result = self.flow.advance();
        self.settle(result)
    }

    #[inline(always)]
    fn execute(&mut self, op: &Op, mask: u32, block: &mut Block<'_>) -> Step<()> {
        match op {
            &Op::Load { to, address, ref d, bytes, sign_to } => self.load(block, Load { to, address, d, bytes, sign_to }, mask),
            Op::Store { to, address, values, bytes } => self.store(block, *to, *address, values, *bytes, mask),
            &Op::Atomic { to, address, d, a, b, bytes, ref combine } => {
                self.atomic(block, Atomic { to, address, d, a, b, bytes, combine }, mask)
            }
            &Op::CopyAsync { to, from, bytes, size, ignore } => {
                self.copy_async(block, CopyAsync { to, from, bytes, size, ignore }, mask)
            }
            Op::CommitGroup => {
                self.copies.commit(mask);
                Ok(())
            }
            Op::Bulk(bulk) => self.bulk(block, bulk, mask),
            Op::CommitBulk => {
                self.bulks.commit(mask);
                Ok(())
            }
            &Op::WaitBulk { left, reads } => self.wait_bulk(block, left, reads, mask),
            Op::ProxyFence => {
                for lane in lanes(mask) {
                    block.proxies.fence(self.thread(lane));
                    block.phases.publish(self.thread(lane));
                }
                Ok(())
            }
            Op::PhaseFence => {
                lanes(mask).for_each(|lane| block.phases.publish(self.thread(lane)));
                Ok(())
            }
            Op::MatrixProduct(product) => self.multiply_async(block, product, mask),
            Op::MatrixFence => {
                self.fence_matrices();
                Ok(())
            }
            Op::CommitMatrix => {
                self.commit_matrices();
                Ok(())
            }
            Op::WaitMatrix(left) => self.wait_matrices(block, *left),
            &Op::Elect { d, p, members } => {
                self.elect(d, p, members, mask);
                Ok(())
            }
            Op::WaitGroup(left) => self.wait_copies(block, Some(*left), mask),
            Op::WaitAll => self.wait_copies(block, None, mask),
            &Op::MapShared { d, address, rank } => self.map_shared(block, d, address, rank, mask),
            &Op::Phase { action, mapped, to, address, d, p, value } => {
                self.phase(block, PhaseOperands { action, mapped, to, address, d, p, value }, mask)
            }
            Op::LoadMatrix { d, address, transpose } => self.load_matrix(block, d, *address, *transpose),
            Op::StoreMatrix { values, address, transpose } => self.store_matrix(block, values, *address, *transpose),
            Op::Mma { shape, d, a, b, c } => {
                self.multiply(*shape, d, a, b, c);
                Ok(())
            }
            &Op::Shuffle { mode, d, p, a, b, c, .. } => self.shuffle(mode, (d, p), (a, b, c), mask),
            &Op::Vote { mode, d, a, .. } => {
                self.vote(mode, d, a, mask);
                Ok(())
            }
            &Op::Match { all, d, p, a, .. } => {
                self.matching(all, d, p, a, mask);
                Ok(())
            }
            &Op::Reduce { f, d, a, .. } => {
                self.reduce(f, d, a, mask);
                Ok(())
            }
            Op::Clock { d, bits } => {
                // Time passes by instructions.
                let now = if *bits >= 64 { self.executed } else { self.executed & 0xffff_ffff };
                self.fill(*d, now, mask);
                Ok(())
            }
            _ => {
                self.compute(op, mask);
                Ok(())
            }
        }
    }

    /// Faults where a slot was not written in all lanes of a mask.
    #[inline]
    fn check(&self, written: u32, mask: u32, slot: u32) -> Step<()> {
        let missing = mask & !written;
        match missing {
            0 => Ok(()),
            _ => {
                let address = u64::from(slot & !PREDICATE);
                stop_first(missing, FaultKind::Uninitialised { space: Space::Register, address })
            }
        }
    }

    /// Whether all lanes that an instruction needs are active; if not, others are, and it comes later.
    fn assemble(&mut self, code: &Code, mask: u32) -> Step<bool> {
        if mask != self.flow.active {
            // Lanes whose guard is false step aside.
            let result = self.flow.part(self.flow.pc, mask, self.flow.pc + 1);
            return self.settle(result).map(|()| false);
        }
        let wanted = match code.op {
            Op::SyncWarp { members }
            | Op::Shuffle { members, .. }
            | Op::Vote { members, .. }
            | Op::Match { members, .. }
            | Op::Elect { members, .. }
            | Op::Reduce { members, .. } => Wanted::Members(self.members(members, mask)?),
            _ => Wanted::All,
        };
        let result = self.flow.gather(wanted);
        let here = match result {
            Ok(here) => here,
            Err(stuck) => return self.settle(Err(stuck)).map(|()| false),
        };
        if here && whole_warp(&code.op) && mask != u32::MAX {
            return stop_first(mask, FaultKind::DivergentBarrier { waiting: mask.count_ones(), expected: 32 });
        }
        Ok(here)
    }

    /// The lanes that an instruction names: all of its lanes must agree, and be among them.
    fn members(&self, members: Source, mask: u32) -> Step<u32> {
        let values = self.source(members);
        let first = values[mask.trailing_zeros().min(31) as usize] as u32;
        for lane in lanes(mask) {
            let members = values[lane] as u32;
            if members != first || members >> lane & 1 == 0 {
                return stop(lane, FaultKind::MemberMask { members });
            }
        }
        Ok(first)
    }

    /// Lanes go to targets, or on.
    fn branch(&mut self, targets: &[(u32, u32)], stay: u32, join: u32, block: &mut Block<'_>) -> Step<()> {
        let result = match targets {
            [(to, _)] if stay == 0 => self.flow.jump(*to),
            [] => self.flow.advance(),
            _ => {
                block.counters.divergent_branches += 1;
                self.flow.branch(targets, stay, join)
            }
        };
        self.settle(result)
    }

    fn branch_indexed(&mut self, index: Source, targets: &[u32], mask: u32, join: u32, block: &mut Block<'_>) -> Step<()> {
        let mut parts = [(0, 0); 32];
        let mut count = 0;
        for lane in lanes(mask) {
            let index = self.source(index)[lane];
            let Some(&to) = usize::try_from(index).ok().and_then(|i| targets.get(i)) else {
                return stop(lane, FaultKind::BadArguments(format!("there is no branch target {index}").into()));
            };
            let at = parts[..count].iter().position(|(pc, _)| *pc == to).unwrap_or(count);
            count = count.max(at + 1);
            parts[at] = (to, parts[at].1 | 1 << lane);
        }
        self.branch(&parts[..count], self.flow.active & !mask, join, block)
    }

    fn exit(&mut self, mask: u32, block: &mut Block<'_>) -> Step<()> {
        // Shared memory goes with the block, while the copy engine still reads it.
        self.bulks.end(block, mask)?;
        block.changes += 1;
        let result = self.flow.exit(mask);
        if self.flow.alive == 0 {
            self.state = State::Done;
            return block.leave_cluster(self, mask);
        }
        self.settle(result)
    }

    /// Turns lanes that can never go on into a fault.
    fn settle(&mut self, result: Result<(), Stuck>) -> Step<()> {
        let Err(Stuck { pc, mask, wanted }) = result else { return Ok(()) };
        (self.flow.pc, self.flow.active) = (pc, mask);
        stop_first(mask, FaultKind::DivergentBarrier { waiting: mask.count_ones(), expected: wanted.count_ones() })
    }
}

/// Whether lanes execute an instruction together or not at all.
fn together(op: &Op) -> bool {
    use Op::{Barrier, Elect, Match, Reduce, Shuffle, SyncWarp, Vote};
    let named = matches!(
        op,
        Barrier { .. } | SyncWarp { .. } | Shuffle { .. } | Vote { .. } | Match { .. } | Reduce { .. } | Elect { .. }
    );
    named || whole_warp(op)
}

/// Whether that means all 32 of them.
fn whole_warp(op: &Op) -> bool {
    use Op::{
        ClusterArrive, ClusterWait, CommitMatrix, LoadMatrix, MatrixFence, MatrixProduct, Mma, SetRegisters, StoreMatrix,
        WaitMatrix,
    };
    matches!(
        op,
        LoadMatrix { .. }
            | StoreMatrix { .. }
            | Mma { .. }
            | MatrixProduct(_)
            | MatrixFence
            | CommitMatrix
            | WaitMatrix(_)
            | SetRegisters { .. }
            | ClusterArrive
            | ClusterWait
    )
}
