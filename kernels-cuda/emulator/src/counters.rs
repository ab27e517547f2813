//! What a launch cost, in numbers that do not depend on the machine that emulates.

use std::fmt;
use std::ops::{Add, AddAssign};

/// What kind of unit executes an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Integer,
    Float,
    Conversion,
    Move,
    Tensor,
    Memory,
    Control,
    Synchronisation,
}

/// How many classes there are.
pub(crate) const CLASSES: usize = 8;

/// Counts of one launch. Instructions are counted once per warp, as a profiler does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Integer arithmetic, logic, comparisons of integers.
    pub integer: u64,
    /// f16, bf16, f32 and f64 arithmetic and comparisons.
    pub float: u64,
    /// `cvt`.
    pub conversion: u64,
    /// `mov`, `selp` and other copies between registers.
    pub moves: u64,
    /// `mma.sync`.
    pub tensor: u64,
    /// Loads, stores, atomics, `cp.async`, `ldmatrix`.
    pub memory: u64,
    /// Branches and exits.
    pub control: u64,
    /// Barriers, shuffles, votes, fences.
    pub synchronisation: u64,
    /// Instructions times the lanes that took part.
    pub lane_instructions: u64,
    /// Warp-wide requests to global memory, loads and stores.
    pub global_requests: u64,
    /// Bytes that lanes asked of global memory.
    pub global_bytes: u64,
    /// 32-byte sectors touched, counted per request: bytes / 32 where accesses are coalesced.
    pub global_transactions: u64,
    /// Warp-wide requests to shared memory.
    pub shared_requests: u64,
    /// Passes over the 32 banks beyond the fewest that the access width needs.
    pub shared_bank_conflicts: u64,
    /// Barriers of a block that were completed.
    pub barriers: u64,
    /// Branches where lanes of a warp parted.
    pub divergent_branches: u64,
    /// Blocks executed.
    pub blocks: u64,
}

impl Counters {
    /// All instructions, counted once per warp.
    pub fn instructions(&self) -> u64 {
        let arithmetic = self.integer + self.float + self.conversion + self.moves + self.tensor;
        arithmetic + self.memory + self.control + self.synchronisation
    }

    /// Adds numbers of instructions, in the order of [`Class`].
    pub(crate) fn add_instructions(&mut self, by_class: &[u64; CLASSES]) {
        let [integer, float, conversion, moves, tensor, memory, control, synchronisation] = by_class;
        self.integer += integer;
        self.float += float;
        self.conversion += conversion;
        self.moves += moves;
        self.tensor += tensor;
        self.memory += memory;
        self.control += control;
        self.synchronisation += synchronisation;
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, o: Counters) {
        self.integer += o.integer;
        self.float += o.float;
        self.conversion += o.conversion;
        self.moves += o.moves;
        self.tensor += o.tensor;
        self.memory += o.memory;
        self.control += o.control;
        self.synchronisation += o.synchronisation;
        self.lane_instructions += o.lane_instructions;
        self.global_requests += o.global_requests;
        self.global_bytes += o.global_bytes;
        self.global_transactions += o.global_transactions;
        self.shared_requests += o.shared_requests;
        self.shared_bank_conflicts += o.shared_bank_conflicts;
        self.barriers += o.barriers;
        self.divergent_branches += o.divergent_branches;
        self.blocks += o.blocks;
    }
}

impl Add for Counters {
    type Output = Counters;

    fn add(mut self, other: Counters) -> Counters {
        self += other;
        self
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} instructions (integer {}, float {}, conversion {}, move {}, tensor {}, memory {}, control {}, synchronisation {}); \
             global {} bytes in {} sectors; {} bank conflicts in {} shared requests; {} barriers",
            self.instructions(),
            self.integer,
            self.float,
            self.conversion,
            self.moves,
            self.tensor,
            self.memory,
            self.control,
            self.synchronisation,
            self.global_bytes,
            self.global_transactions,
            self.shared_bank_conflicts,
            self.shared_requests,
            self.barriers
        )
    }
}
