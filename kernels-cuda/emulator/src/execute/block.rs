//! A block: its shared memory, and its warps in turns.

use super::Stop;
use super::barrier::{Barrier, Wake};
use super::grid::Grid;
use super::phase::Phases;
use super::warp::{State, Warp};
use crate::counters::{CLASSES, Counters};
use crate::fault::{Fault, FaultKind};
use crate::memory::shadow::Shadow;
use crate::memory::storage::Storage;

/// Barriers of a block.
pub const BARRIERS: usize = 16;

/// What the warps of a block share.
pub struct Block<'g> {
    pub grid: &'g Grid<'g>,
    pub id: [u32; 3],
    pub shared: Storage,
    pub shadow: Shadow,
    pub local: Storage,
    /// Local bytes of one thread.
    pub local_stride: u32,
    pub barriers: [Barrier; BARRIERS],
    /// Warps to wake, as a barrier has been completed.
    pub wake: Option<Wake>,
    pub phases: Phases,
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
        let shared_bytes = grid.shared_bytes();
        let local_stride = kernel.local_bytes.next_multiple_of(16);
        let local_bytes = local_stride as usize * grid.warps() as usize * 32;
        let room = |bytes: usize| Storage::new(bytes).ok_or(FaultKind::OutOfMemory { bytes: bytes as u64 });
        let block = Block {
            grid,
            id: [0; 3],
            shared: room(shared_bytes as usize)?,
            shadow: Shadow::new(if grid.options.races { shared_bytes as usize } else { 0 }, kernel.granule),
            local: room(local_bytes)?,
            local_stride,
            barriers: Default::default(),
            wake: None,
            phases: Phases::default(),
            in_flight: 0,
            counters: Counters::default(),
            tally: [0; CLASSES],
        };
        Ok(Worker { block, warps: (0..grid.warps()).map(|index| Warp::new(index, grid)).collect() })
    }

    pub fn counters(&self) -> Counters {
        let mut counters = self.block.counters;
        counters.add_instructions(&self.block.tally);
        counters
    }

    /// Executes one block.
    pub fn run(&mut self, id: [u32; 3]) -> Result<(), Fault> {
        self.start(id);
        loop {
            let mut idle = true;
            for at in 0..self.warps.len() {
                if self.warps[at].state != State::Ready {
                    continue;
                }
                idle = false;
                if let Err(stop) = self.warps[at].run(&mut self.block) {
                    return Err(self.fault(at, *stop));
                }
                self.wake();
            }
            if idle {
                return self.finish();
            }
        }
    }

    fn start(&mut self, id: [u32; 3]) {
        let block = &mut self.block;
        block.id = id;
        block.shared.forget();
        block.local.forget();
        block.shadow.restart();
        block.barriers = Default::default();
        block.phases.clear();
        block.in_flight = 0;
        block.counters.blocks += 1;
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
        let Some((at, barrier)) = waiting else { return Ok(()) };
        let Barrier { arrived, expected, .. } = self.block.barriers[barrier];
        let lane = self.warps[at].flow.active.trailing_zeros().min(31) as usize;
        Err(self.fault(at, Stop { lane, kind: FaultKind::DivergentBarrier { waiting: arrived, expected } }))
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
            block: self.block.id,
            thread,
            source: code.source.clone(),
            ..host
        }
    }
}
