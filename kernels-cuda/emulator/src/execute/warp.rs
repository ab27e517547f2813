//! The state of a warp.

use super::block::Block;
use super::bulk::Bulks;
use super::copies::Copies;
use super::flow::Flow;
use super::grid::Grid;
use super::warpgroup::Matrices;
use crate::fault::FaultKind;
use crate::memory::storage::lanes;
use crate::program::{CONSTANT, Constant, LaneMask, Lanes, PREDICATE, PredicateSource, Source, Special};

/// What a warp does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    /// At a barrier.
    Waiting(usize),
    Done,
}

/// Registers of 32 lanes, and what they do.
pub struct Warp {
    /// The number of the warp in its block; in a cluster, through all blocks.
    pub index: u32,
    /// The block of the cluster.
    pub rank: u32,
    /// Where the block's shared memory begins in the cluster's.
    pub shared: u32,
    /// How often it has arrived at the barrier of the cluster, and waited.
    pub met: [u32; 2],
    pub state: State,
    pub flow: Flow,
    pub registers: Vec<Lanes>,
    /// The lanes in which each register was written.
    pub written: Vec<u32>,
    pub predicates: Vec<u32>,
    pub predicates_written: Vec<u32>,
    pub constants: Vec<Lanes>,
    /// Results before the inactive lanes are left out.
    pub scratch: Lanes,
    pub copies: Copies,
    pub bulks: Bulks,
    pub matrices: Matrices,
    /// Whether other warps should run now, since this one waits for something they do.
    pub yields: bool,
    /// Where it waits, and what it is if that never ends.
    pub stuck: Option<(u32, FaultKind)>,
    /// Instructions executed.
    pub executed: u64,
}

impl Warp {
    pub fn new(index: u32, grid: &Grid<'_>) -> Warp {
        let kernel = grid.kernel;
        Warp {
            index,
            rank: index / grid.warps(),
            shared: index / grid.warps() * grid.shared_stride(),
            met: [0; 2],
            state: State::Done,
            flow: Flow::default(),
            registers: vec![[0; 32]; kernel.registers as usize],
            written: vec![0; kernel.registers as usize],
            predicates: vec![0; kernel.predicates as usize],
            predicates_written: vec![0; kernel.predicates as usize],
            constants: kernel
                .constants
                .iter()
                .map(|c| std::array::from_fn(|lane| value(*c, index % grid.warps(), lane as u32, grid)))
                .collect(),
            scratch: [0; 32],
            copies: Copies::default(),
            bulks: Bulks::default(),
            matrices: Matrices::default(),
            yields: false,
            stuck: None,
            executed: 0,
        }
    }

    /// The number in the block, or the cluster, of a lane's thread.
    pub fn thread(&self, lane: usize) -> u32 {
        self.index * 32 + lane as u32
    }

    /// Begins a block.
    pub fn start(&mut self, block: &Block<'_>) {
        let threads = block.grid.threads() - self.index % block.grid.warps() * 32;
        self.met = [0; 2];
        self.flow.start(if threads >= 32 { u32::MAX } else { (1 << threads) - 1 });
        self.state = State::Ready;
        self.executed = 0;
        self.written.fill(0);
        self.predicates_written.fill(0);
        self.copies.clear();
        self.bulks.clear();
        let kernel = block.grid.kernel;
        self.matrices.start(if kernel.matrices { kernel.registers } else { 0 });
        self.stuck = None;
        // Of all constants, these differ from block to block.
        for (constant, lanes) in block.grid.kernel.constants.iter().zip(&mut self.constants) {
            if let Constant::Special(Special::BlockId(axis)) = constant {
                *lanes = [u64::from(block.ids[self.rank as usize][usize::from(*axis)]); 32];
            }
        }
    }

    #[inline]
    pub fn source(&self, source: Source) -> &Lanes {
        source_of(&self.registers, &self.constants, source)
    }

    #[inline]
    pub fn predicate(&self, source: PredicateSource) -> u32 {
        match source {
            PredicateSource::Register(slot, false) => self.predicates[slot as usize],
            PredicateSource::Register(slot, true) => !self.predicates[slot as usize],
            PredicateSource::Value(value) => {
                if value {
                    u32::MAX
                } else {
                    0
                }
            }
        }
    }

    /// The lanes in which a source has a value.
    pub fn defined(&self, source: Source) -> u32 {
        if source & CONSTANT != 0 { u32::MAX } else { self.written[source as usize] }
    }

    pub fn predicate_defined(&self, source: PredicateSource) -> u32 {
        match source {
            PredicateSource::Register(slot, _) => self.predicates_written[slot as usize],
            PredicateSource::Value(_) => u32::MAX,
        }
    }

    /// The lanes in which a slot, with [`PREDICATE`] or not, was written.
    #[inline]
    pub fn written(&self, slot: u32) -> u32 {
        match slot & PREDICATE {
            0 => self.written[slot as usize],
            _ => self.predicates_written[(slot & !PREDICATE) as usize],
        }
    }

    #[inline]
    pub fn mark(&mut self, slot: u32, mask: u32) {
        match slot & PREDICATE {
            0 => self.written[slot as usize] |= mask,
            _ => self.predicates_written[(slot & !PREDICATE) as usize] |= mask,
        }
    }

    /// Writes a predicate in the lanes of a mask.
    pub fn set_predicate(&mut self, slot: u32, value: u32, mask: u32) {
        let old = &mut self.predicates[slot as usize];
        *old = *old & !mask | value & mask;
    }

    /// Writes the scratch register to a register in the lanes of a mask.
    #[inline]
    pub fn keep(&mut self, d: u32, mask: u32) {
        merge(&mut self.registers[d as usize], &self.scratch, mask);
    }

    /// Writes one value to a register in the lanes of a mask.
    pub fn fill(&mut self, d: u32, value: u64, mask: u32) {
        let register = &mut self.registers[d as usize];
        for lane in lanes(mask) {
            register[lane] = value;
        }
    }
}

/// What a constant is for a lane of a warp.
fn value(constant: Constant, warp: u32, lane: u32, grid: &Grid<'_>) -> u64 {
    let special = match constant {
        Constant::Value(value) => return value,
        Constant::Global(index, offset) => {
            return grid.globals.get(index as usize).map_or(0, |a| a.wrapping_add(offset as u64));
        }
        Constant::Dynamic(offset) => return u64::from(grid.kernel.dynamic_base).wrapping_add(offset as u64),
        Constant::Special(special) => special,
    };
    u64::from(match special {
        Special::ThreadId(axis) => grid.thread_id(warp * 32 + lane)[usize::from(axis)],
        Special::ThreadCount(axis) => grid.launch.block[usize::from(axis)],
        Special::BlockId(_) => 0,
        Special::BlockCount(axis) => grid.launch.grid[usize::from(axis)],
        Special::Lane => lane,
        Special::Warp => warp,
        Special::WarpCount => grid.warps(),
        Special::LaneMask(which) => match which {
            LaneMask::Equal => 1 << lane,
            LaneMask::Less => (1 << lane) - 1,
            LaneMask::LessEqual => u32::MAX >> (31 - lane),
            LaneMask::Greater => u32::MAX << lane & !(1 << lane),
            LaneMask::GreaterEqual => u32::MAX << lane,
        },
        Special::DynamicShared => grid.launch.dynamic_shared,
        Special::TotalShared => grid.shared_bytes(),
    })
}

#[inline]
pub fn source_of<'w>(registers: &'w [Lanes], constants: &'w [Lanes], source: Source) -> &'w Lanes {
    if source & CONSTANT != 0 { &constants[(source & !CONSTANT) as usize] } else { &registers[source as usize] }
}

/// Copies the lanes of a mask.
#[inline]
pub fn merge(to: &mut Lanes, from: &Lanes, mask: u32) {
    if mask == u32::MAX {
        *to = *from;
        return;
    }
    for lane in 0..32 {
        let keep = u64::from(mask >> lane & 1).wrapping_neg();
        to[lane] = to[lane] & !keep | from[lane] & keep;
    }
}
