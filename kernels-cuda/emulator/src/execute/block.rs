//! A block: its shared memory, and its warps in turns.

use super::Stop;
use super::barrier::{Barrier, Wake};
use super::cluster::Cluster;
use super::grid::Grid;
use super::phase::Phases;
use super::quota::Quota;
use super::warp::{State, Warp};
use super::warpgroup::Warpgroup;
use crate::counters::{CLASSES, Counters};
use crate::fault::{Fault, FaultKind};
use crate::memory::proxies::Proxies;
use crate::memory::shadow::Shadow;
use crate::memory::storage::Storage;

/// Barriers of a block.
pub const BARRIERS: usize = 16;

/// Rounds in which all warps ask in vain whether they may go on, before they are taken to do so for ever.
const PATIENCE: u32 = 1 << 12;

/// What the warps of a block share; or of a cluster, whose blocks lie one after the other in everything that is counted here: their warps,
/// barriers, and bytes of shared memory.
pub struct Block<'g> {
    pub grid: &'g Grid<'g>,
    pub ids: Vec<[u32; 3]>,
    pub shared: Storage,
    pub shadow: Shadow,
    pub local: Storage,
    /// Local bytes of one thread.
    pub local_stride: u32,
    pub barriers: Vec<Barrier>,
    pub cluster: Cluster,
    /// Warps to wake, as a barrier has been completed.
    pub wake: Option<Wake>,
    pub phases: Phases,
    pub proxies: Proxies,
    pub warpgroups: Vec<Warpgroup>,
    pub quota: Quota,
    /// Counts what others may wait for.
    pub changes: u64,
    /// Bytes of shared memory that asynchronous copies write.
    pub in_flight: u32,
    pub counters: Counters,
    /// Instructions by [`Class`](crate::counters::Class).
    pub tally: [u64; CLASSES],
}

/// One host thread's block, and its warps. Reused from block to block, so that nothing is allocated while blocks run.
pub struct Worker<'g> {
    block: Block<'g>,
    warps: Vec<Warp>,
}

impl<'g> Worker<'g> {
    pub fn new(grid: &'g Grid<'g>) -> Result<Worker<'g>, FaultKind> {
        let kernel = grid.kernel;
        let shared_bytes = grid.shared_stride() * grid.cluster();
        let warps = grid.warps() * grid.cluster();
        let local_stride = kernel.local_bytes.next_multiple_of(16);
        let local_bytes = local_stride as usize * warps as usize * 32;
        let room = |bytes: usize| Storage::new(bytes).ok_or(FaultKind::OutOfMemory { bytes: bytes as u64 });
        let block = Block {
            grid,
            ids: Vec::new(),
            shared: room(shared_bytes as usize)?,
            shadow: Shadow::new(if grid.options.races { shared_bytes as usize } else { 0 }, kernel.granule),
            local: room(local_bytes)?,
            local_stride,
            barriers: Vec::new(),
            cluster: Cluster::default(),
            wake: None,
            phases: Phases::default(),
            proxies: match kernel.asynchronous && grid.options.races {
                true => Proxies::new(shared_bytes as usize, kernel.granule, warps * 32),
                false => Proxies::default(),
            },
            warpgroups: Vec::new(),
            quota: Quota::default(),
            changes: 0,
            in_flight: 0,
            counters: Counters::default(),
            tally: [0; CLASSES],
        };
        Ok(Worker { block, warps: (0..warps).map(|index| Warp::new(index, grid)).collect() })
    }

    pub fn counters(&self) -> Counters {
        let mut counters = self.block.counters;
        counters.add_instructions(&self.block.tally);
        counters
    }

    /// Executes one block, or those of one cluster.
    pub fn run(&mut self, ids: Vec<[u32; 3]>) -> Result<(), Fault> {
        self.start(ids);
        let mut in_vain = 0;
        loop {
            let (mut idle, mut stuck, before) = (true, true, self.block.changes);
            for at in 0..self.warps.len() {
                if self.warps[at].state != State::Ready {
                    continue;
                }
                idle = false;
                if let Err(stop) = self.warps[at].run(&mut self.block) {
                    return Err(self.fault(at, *stop));
                }
                self.wake();
                stuck &= self.warps[at].yields && self.warps[at].stuck.is_some();
            }
            if idle {
                return self.finish();
            }
            in_vain = if stuck && self.block.changes == before { in_vain + 1 } else { 0 };
            if in_vain > PATIENCE {
                return self.never_ends();
            }
        }
    }

    fn start(&mut self, ids: Vec<[u32; 3]>) {
        let block = &mut self.block;
        let blocks = ids.len();
        block.ids = ids;
        block.shared.forget();
        block.local.forget();
        block.shadow.restart();
        block.barriers.clear();
        block.barriers.resize(BARRIERS * blocks, Barrier::default());
        block.cluster.start(blocks as u32, block.grid.warps());
        block.phases.clear();
        block.proxies.restart();
        block.warpgroups.clear();
        block
            .warpgroups
            .resize_with(if block.grid.kernel.matrices { self.warps.len().div_ceil(4) } else { 0 }, Warpgroup::default);
        block.quota.start(block.grid.threads(), block.grid.warps(), blocks as u32);
        block.changes = 0;
        block.in_flight = 0;
        block.counters.blocks += blocks as u64;
        for warp in &mut self.warps {
            warp.start(block);
        }
    }

    /// Lets go on who waited for a barrier that has been completed.
    fn wake(&mut self) {
        let Some(wake) = self.block.wake.take() else { return };
        for warp in &mut self.warps {
            if warp.state == State::Waiting(wake.barrier) {
                self.block.shadow.learn(warp.index as usize, &wake.known);
                warp.wake(&wake, &self.block.grid.kernel.code[warp.flow.pc as usize]);
            }
        }
        self.block.shadow.tick();
        self.block.counters.barriers += 1;
    }

    /// No warp can go on: either all are done, or some wait for ever.
    fn finish(&mut self) -> Result<(), Fault> {
        let waiting = self.warps.iter().enumerate().find_map(|(at, warp)| match warp.state {
            State::Waiting(barrier) => Some((at, barrier)),
            _ => None,
        });
        let Some((at, barrier)) = waiting else { return self.settled() };
        let Barrier { arrived, expected, .. } = self.block.barriers[barrier];
        let lane = self.warps[at].flow.active.trailing_zeros().min(31) as usize;
        Err(self.fault(at, Stop { lane, kind: FaultKind::DivergentBarrier { waiting: arrived, expected } }))
    }

    /// All are done: nothing that was expected may be missing.
    fn settled(&mut self) -> Result<(), Fault> {
        if let Some((pc, kind)) = self.block.phases.unsettled() {
            self.warps[0].flow.pc = pc;
            return Err(self.fault(0, Stop { lane: 0, kind }));
        }
        if let Some(at) = self.block.warpgroups.iter().position(|group| !group.settled()) {
            let kind = FaultKind::Warpgroup("some warps of a warpgroup execute more products than others".into());
            return Err(self.fault(4 * at, Stop { lane: 0, kind }));
        }
        Ok(())
    }

    /// Every warp that could go on asks whether it may, and is told no, for ever.
    fn never_ends(&mut self) -> Result<(), Fault> {
        let waiting = |warp: &Warp| if warp.state == State::Ready { warp.stuck.clone() } else { None };
        let found = self.warps.iter().enumerate().find_map(|(at, warp)| waiting(warp).map(|stuck| (at, stuck)));
        let Some((at, (pc, kind))) = found else { return Ok(()) };
        self.warps[at].flow.pc = pc;
        let lane = self.warps[at].flow.active.trailing_zeros().min(31) as usize;
        Err(self.fault(at, Stop { lane, kind }))
    }

    /// Adds the place to a fault.
    fn fault(&self, warp: usize, stop: Stop) -> Fault {
        let (warp, grid) = (&self.warps[warp], self.block.grid);
        let host = Fault::host(&grid.kernel.name, stop.kind);
        let Some(code) = grid.kernel.code.get(warp.flow.pc as usize) else { return host };
        let thread = grid.thread_id(warp.thread(stop.lane));
        Fault {
            line: code.line,
            instruction: code.text.clone(),
            block: self.block.ids[warp.rank as usize],
            thread,
            source: code.source.clone(),
            ..host
        }
    }
}
