//! Clusters: blocks that run at the same time and reach into each other's shared memory.
//!
//! They are one block here, with the memory, warps and barriers of all, so that who knows of whose accesses is one question. A block's own
//! addresses stay its own; those of others are what `mapa` gives, and nothing but arrivals takes them.

use super::block::Block;
use super::warp::{State, Warp};
use super::{Step, stop, stop_first};
use crate::fault::FaultKind;
use crate::memory::shadow::{Clock, later};
use crate::memory::storage::lanes;
use crate::program::Source;

/// Where addresses that `mapa` gives begin: a window of so many bytes for each block.
const WINDOW: u64 = 1 << 24;

/// The block and its own address of what `mapa` gave.
pub fn mapped(address: u64) -> Option<(u32, u64)> {
    (address / WINDOW).checked_sub(1).map(|rank| (rank as u32, address % WINDOW))
}

/// A block as the others of its cluster reach for it.
#[derive(Clone, Copy, Default)]
struct Member {
    /// Warps that have not ended.
    alive: u32,
    /// When others last reached for it, and what its warps knew of that when they ended.
    reached: Clock,
    known: Clock,
}

/// The barrier of a cluster, and its blocks.
#[derive(Default)]
pub struct Cluster {
    members: Vec<Member>,
    arrived: u32,
    phases: u32,
    /// What those did that arrived, in the phase at hand and in the last one.
    arriving: Clock,
    complete: Clock,
}

impl Cluster {
    pub fn start(&mut self, blocks: u32, warps: u32) {
        let member = Member { alive: warps, ..Member::default() };
        *self = Cluster { members: vec![member; blocks as usize], ..Cluster::default() };
    }

    /// Somebody reaches for a block's shared memory: `told` says who, and when.
    pub fn reach(&mut self, rank: u32, told: &Clock, lane: usize) -> Step<()> {
        let blocks = self.members.len();
        let what = match self.members.get_mut(rank as usize) {
            None => format!("there is no block {rank} in a cluster of {blocks}"),
            Some(Member { alive: 0, .. }) => format!("block {rank} of the cluster has ended"),
            Some(member) => {
                later(&mut member.reached, told);
                return Ok(());
            }
        };
        stop(lane, FaultKind::Cluster(what.into()))
    }
}

impl Block<'_> {
    /// A warp has ended. With the last one of a block its shared memory goes, and whoever reached for it must have been waited for.
    pub fn leave_cluster(&mut self, warp: &Warp, mask: u32) -> Step<()> {
        let told = self.shadow.tell(warp.index as usize);
        let member = &mut self.cluster.members[warp.rank as usize];
        member.alive -= 1;
        later(&mut member.known, &told);
        let waited = member.reached.iter().zip(member.known.iter()).all(|(reached, known)| reached <= known);
        match member.alive == 0 && !waited {
            true => stop_first(mask, FaultKind::Cluster("a block ends before those are done that reach for it".into())),
            false => Ok(()),
        }
    }
}

impl Warp {
    pub fn map_shared(&mut self, block: &Block<'_>, d: u32, address: Source, rank: Source, mask: u32) -> Step<()> {
        let (all, ranks) = (*self.source(address), *self.source(rank));
        for lane in lanes(mask) {
            if all[lane] >= WINDOW || ranks[lane] >= u64::from(block.grid.cluster()) {
                let what = format!("mapa of {:#x} to block {} of {}", all[lane], ranks[lane], block.grid.cluster());
                return stop(lane, FaultKind::Cluster(what.into()));
            }
            self.registers[d as usize][lane] = (ranks[lane] + 1) * WINDOW + all[lane];
        }
        Ok(())
    }

    /// `barrier.cluster.arrive`.
    pub fn arrive_at_cluster(&mut self, block: &mut Block<'_>, mask: u32) -> Step<()> {
        if self.met[0] != self.met[1] {
            return stop_first(mask, FaultKind::Cluster("a second arrival at the barrier of the cluster without a wait".into()));
        }
        self.met[0] += 1;
        let told = block.shadow.tell(self.index as usize);
        let threads = block.grid.threads() * block.grid.cluster();
        let cluster = &mut block.cluster;
        later(&mut cluster.arriving, &told);
        cluster.arrived += mask.count_ones();
        if cluster.arrived == threads {
            cluster.arrived = 0;
            cluster.phases += 1;
            cluster.complete = std::mem::take(&mut cluster.arriving);
            block.counters.barriers += 1;
        }
        block.changes += 1;
        block.shadow.tick();
        Ok(())
    }

    /// `barrier.cluster.wait`: answers whether the warp can go on; if not, it tries again.
    pub fn wait_for_cluster(&mut self, block: &mut Block<'_>, mask: u32) -> Step<bool> {
        if self.met[0] == self.met[1] {
            return stop_first(mask, FaultKind::Cluster("a wait at the barrier of the cluster without an arrival".into()));
        }
        if block.cluster.phases < self.met[0] {
            let waiting = block.cluster.arrived;
            let expected = block.grid.threads() * block.grid.cluster();
            self.yields = true;
            self.state = State::Ready;
            self.stuck = Some((self.flow.pc, FaultKind::DivergentBarrier { waiting, expected }));
            return Ok(false);
        }
        self.stuck = None;
        self.met[1] += 1;
        block.shadow.learn(self.index as usize, &block.cluster.complete);
        block.changes += 1;
        Ok(true)
    }
}
