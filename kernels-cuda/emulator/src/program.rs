//! Decoded kernels: every name is a slot, every label an index, every arithmetic instruction a function over the 32 lanes of a warp.

use crate::counters::Class;
use crate::fault::{SourceLine, Space};

/// One register of a warp: a value for each lane, zero above the width of the register.
pub type Lanes = [u64; 32];

pub type Function1 = Box<dyn Fn(&Lanes, &mut Lanes) + Send + Sync>;
pub type Function2 = Box<dyn Fn(&Lanes, &Lanes, &mut Lanes) + Send + Sync>;
pub type Function3 = Box<dyn Fn(&Lanes, &Lanes, &Lanes, &mut Lanes) + Send + Sync>;
pub type Function4 = Box<dyn Fn([&Lanes; 4], &mut Lanes) + Send + Sync>;
/// A comparison: the lanes where it holds, and the lanes of the second result.
pub type Comparison = Box<dyn Fn(&Lanes, &Lanes) -> (u32, u32) + Send + Sync>;
/// Add with carry and its like: result and carry from three operands and the carry.
pub type CarryFunction = fn(u64, u64, u64, u64, u32) -> (u64, u64);

/// A source operand: a register slot, or with [`CONSTANT`] set an entry of the kernel's constants.
pub type Source = u32;
pub const CONSTANT: u32 = 1 << 31;
/// In lists of what an instruction reads or writes: a predicate, not a register.
pub const PREDICATE: u32 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PredicateSource {
    /// The predicate register, and whether it is negated.
    Register(u32, bool),
    Value(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    ThreadId(u8),
    ThreadCount(u8),
    BlockId(u8),
    BlockCount(u8),
    Lane,
    Warp,
    WarpCount,
    LaneMask(LaneMask),
    DynamicShared,
    TotalShared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneMask {
    Equal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// What is the same for every execution of an instruction, or at least for the life of a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    Value(u64),
    Special(Special),
    /// The address of a module variable, plus an offset.
    Global(u32, i64),
    /// An offset from where dynamic shared memory begins.
    Dynamic(i64),
}

/// Where an access goes: a space that the instruction names, or whatever a generic address says.
pub type Target = Option<Space>;

/// An address: a source plus a constant, in 32 or 64 bits.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub base: Source,
    pub offset: i64,
    pub narrow: bool,
}

impl Address {
    pub fn of(self, base: u64) -> u64 {
        let sum = base.wrapping_add(self.offset as u64);
        if self.narrow { sum & 0xffff_ffff } else { sum }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    And,
    Or,
    Xor,
}

impl Logic {
    pub fn of(self, a: u32, b: u32) -> u32 {
        match self {
            Logic::And => a & b,
            Logic::Or => a | b,
            Logic::Xor => a ^ b,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    Index,
    Up,
    Down,
    Butterfly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    Any,
    All,
    Uniform,
    Ballot,
}

/// How the threads of a block meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    Sync,
    /// Counts, and does not wait.
    Arrive,
    /// `bar.red`: waits, and combines a predicate.
    Count,
    And,
    Or,
}

/// Where a `wgmma` has its A from.
#[derive(Clone, Debug)]
pub enum MatrixSource {
    /// Four registers, as of an `mma.sync` m16n8k16.
    Registers([Source; 4]),
    /// A descriptor of shared memory, and whether rows lie along it (MN-major).
    Shared(Source, bool),
}

/// A `wgmma.mma_async` m64nNk16 with sums in f32.
pub struct MatrixProduct {
    /// N.
    pub columns: u32,
    pub input: MmaInput,
    pub d: Box<[u32]>,
    pub a: MatrixSource,
    /// A descriptor, and whether columns lie along shared memory (MN-major).
    pub b: (Source, bool),
    /// Whether D is added to.
    pub adds: PredicateSource,
    /// Whether A, B are negated.
    pub negated: [bool; 2],
}

/// What a bulk copy moves.
#[derive(Clone, Debug)]
pub enum BulkShape {
    /// So many bytes, from an address in global memory or to it.
    Bytes { global: Address, bytes: Source },
    /// The tile of a tensor map at these coordinates, innermost first.
    Tile { map: Address, at: Box<[Source]> },
}

/// A bulk copy between global and shared memory.
pub struct Bulk {
    pub shared: Address,
    pub shape: BulkShape,
    /// To shared memory, to be completed at this `mbarrier`; else from it, in a bulk group.
    pub barrier: Option<Address>,
    /// The blocks of the cluster, by bits, to each of which it goes.
    pub multicast: Option<Source>,
}

/// What is done to an `mbarrier` object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseAction {
    Initialise,
    Invalidate,
    Arrive,
    /// Expects bytes more in the phase at hand, and arrives.
    ArriveExpect,
    /// Expects bytes more.
    Expect,
    /// As if so many bytes had come.
    Complete,
    /// Arrives when the thread's asynchronous copies have; the flag says whether the arrival was counted by whoever initialised.
    ArriveAfterCopies {
        counted: bool,
    },
    /// Asks whether the phase of a token is over.
    TestState,
    /// Asks whether the last phase of a parity is over.
    TestParity,
}

/// The arithmetic of an atomic: old and operands to new.
pub type Combine = Box<dyn Fn(u64, u64, u64) -> u64 + Send + Sync>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmaInput {
    F16,
    Bf16,
    Tf32,
}

/// An `mma.sync` m16n8kK: A row-major, B column-major.
#[derive(Clone, Copy, Debug)]
pub struct MmaShape {
    pub k: usize,
    pub input: MmaInput,
    /// C and D are f16 instead of f32.
    pub half_sums: bool,
}

impl Kernel {
    /// Whether the blocks must run one after the other for the result to be the same every time.
    pub fn ordered(&self) -> bool {
        self.code.iter().any(|c| matches!(c.op, Op::Atomic { to: None | Some(Space::Global), .. }))
    }
}

/// One instruction without its guard.
pub enum Op {
    One {
        f: Function1,
        d: u32,
        a: Source,
    },
    Two {
        f: Function2,
        d: u32,
        a: Source,
        b: Source,
    },
    Three {
        f: Function3,
        d: u32,
        a: Source,
        b: Source,
        c: Source,
    },
    Four {
        f: Function4,
        d: u32,
        sources: [Source; 4],
    },
    /// A copy: carries "nobody wrote this" along, as compilers copy what they never use.
    Move {
        d: u32,
        a: Source,
    },
    Pack {
        d: u32,
        parts: Box<[Source]>,
        bits: u32,
    },
    Unpack {
        parts: Box<[Option<u32>]>,
        a: Source,
        bits: u32,
    },
    /// `d.carry_out = a op b op c` with the carry register in a slot.
    Carry {
        f: CarryFunction,
        d: u32,
        a: Source,
        b: Source,
        c: Source,
        carry: u32,
        bits: u32,
        writes_carry: bool,
    },
    Compare {
        f: Comparison,
        p: Option<u32>,
        q: Option<u32>,
        a: Source,
        b: Source,
        with: Option<(Logic, PredicateSource)>,
    },
    /// `set`: what to write where the comparison holds.
    Set {
        f: Comparison,
        d: u32,
        a: Source,
        b: Source,
        with: Option<(Logic, PredicateSource)>,
        pair: bool,
        yes: u64,
    },
    Select {
        d: u32,
        a: Source,
        b: Source,
        p: PredicateSource,
    },
    MovePredicate {
        d: u32,
        a: PredicateSource,
    },
    PredicateLogic {
        op: Logic,
        d: u32,
        a: PredicateSource,
        b: PredicateSource,
    },
    Test {
        f: fn(f64, u64) -> bool,
        p: u32,
        a: Source,
        double: bool,
    },
    Load {
        to: Target,
        address: Address,
        d: Box<[u32]>,
        bytes: u32,
        sign_to: Option<u32>,
    },
    Store {
        to: Target,
        address: Address,
        values: Box<[Source]>,
        bytes: u32,
    },
    Atomic {
        to: Target,
        address: Address,
        d: Option<u32>,
        a: Source,
        b: Option<Source>,
        bytes: u32,
        combine: Combine,
    },
    CopyAsync {
        to: Address,
        from: Address,
        bytes: u32,
        size: Option<Source>,
        ignore: Option<PredicateSource>,
    },
    Bulk(Box<Bulk>),
    CommitBulk,
    /// Until so many groups are left to be written, or only to be read.
    WaitBulk {
        left: u32,
        reads: bool,
    },
    /// `fence.proxy.async`, for shared memory.
    ProxyFence,
    /// `fence.mbarrier_init`.
    PhaseFence,
    MatrixProduct(Box<MatrixProduct>),
    MatrixFence,
    CommitMatrix,
    WaitMatrix(u32),
    /// `setmaxnreg`: so many registers, more or fewer than before.
    SetRegisters {
        count: u32,
        more: bool,
    },
    /// `mapa`: a shared address of this block, as another of the cluster has it.
    MapShared {
        d: u32,
        address: Source,
        rank: Source,
    },
    ClusterArrive,
    ClusterWait,
    Elect {
        d: Option<u32>,
        p: Option<u32>,
        members: Source,
    },
    CommitGroup,
    WaitGroup(u32),
    WaitAll,
    LoadMatrix {
        d: Box<[u32]>,
        address: Address,
        transpose: bool,
    },
    StoreMatrix {
        values: Box<[Source]>,
        address: Address,
        transpose: bool,
    },
    Mma {
        shape: MmaShape,
        d: Box<[u32]>,
        a: Box<[Source]>,
        b: Box<[Source]>,
        c: Box<[Source]>,
    },
    Branch {
        to: u32,
    },
    BranchIndexed {
        index: Source,
        targets: Box<[u32]>,
    },
    Exit,
    Trap,
    Barrier {
        meeting: Meeting,
        id: Source,
        count: Option<Source>,
        p: Option<PredicateSource>,
        d: Option<u32>,
    },
    /// `d` receives the token of an arrival, `p` the answer of a test.
    Phase {
        action: PhaseAction,
        /// Whether the address is one that `mapa` gave.
        mapped: bool,
        to: Target,
        address: Address,
        d: Option<u32>,
        p: Option<u32>,
        value: Option<Source>,
    },
    SyncWarp {
        members: Source,
    },
    Shuffle {
        mode: Shuffle,
        d: u32,
        p: Option<u32>,
        a: Source,
        b: Source,
        c: Source,
        members: Source,
    },
    Vote {
        mode: Vote,
        d: u32,
        a: PredicateSource,
        members: Source,
    },
    Match {
        all: bool,
        d: u32,
        p: Option<u32>,
        a: Source,
        members: Source,
    },
    Reduce {
        f: fn(u64, u64) -> u64,
        d: u32,
        a: Source,
        members: Source,
    },
    ActiveMask {
        d: u32,
    },
    Clock {
        d: u32,
        bits: u32,
    },
    Nothing,
}

/// Registers of `wgmma` that another instruction touches.
pub struct Watched {
    pub reads: Box<[u32]>,
    pub writes: Box<[u32]>,
}

pub struct Code {
    pub op: Op,
    pub guard: Option<PredicateSource>,
    pub class: Class,
    pub watched: Option<Box<Watched>>,
    /// Registers and predicates that must have been written.
    pub reads: Box<[u32]>,
    /// Registers and predicates that are written in every active lane.
    pub writes: Box<[u32]>,
    /// For branches: the instruction where lanes that part here meet again, see [`crate::flow`].
    pub join: u32,
    pub line: u32,
    pub text: Box<str>,
    pub source: Option<Box<SourceLine>>,
}

/// A kernel parameter in the parameter space.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub offset: u32,
    pub bytes: u32,
}

pub struct Kernel {
    pub name: Box<str>,
    pub code: Vec<Code>,
    pub registers: u32,
    pub predicates: u32,
    pub constants: Vec<Constant>,
    pub parameters: Vec<Parameter>,
    pub parameter_bytes: u32,
    /// Where dynamic shared memory begins: after what is declared.
    pub dynamic_base: u32,
    pub local_bytes: u32,
    pub max_threads: Option<u32>,
    /// Blocks of a cluster.
    pub cluster: u32,
    /// Whether anything goes through the asynchronous proxy.
    pub asynchronous: bool,
    /// Whether there is a `wgmma`.
    pub matrices: bool,
    /// The width of the narrowest access that may touch shared memory: races are tracked in this unit. As accesses are aligned to their own
    /// width, none covers a part of it.
    pub granule: u32,
}
