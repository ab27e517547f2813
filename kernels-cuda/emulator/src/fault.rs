//! What can go wrong, as values.

use std::fmt;

use crate::numeric::swizzle::Swizzle;

/// A state space, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// `.global`, and generic addresses that point there.
    Global,
    /// `.shared`.
    Shared,
    /// `.local`.
    Local,
    /// `.param`.
    Param,
    /// `.const`.
    Const,
    /// A register.
    Register,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Global => "global memory",
            Space::Shared => "shared memory",
            Space::Local => "local memory",
            Space::Param => "a parameter",
            Space::Const => "constant memory",
            Space::Register => "a register",
        })
    }
}

/// The class of a fault, with what is particular to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access that is not inside one allocation or one window.
    OutOfBounds {
        /// Where the address points.
        space: Space,
        /// The first byte of the access.
        address: u64,
        /// How many bytes.
        bytes: u32,
    },
    /// An address that is no multiple of the access width.
    Misaligned {
        /// Where the address points.
        space: Space,
        /// The first byte of the access.
        address: u64,
        /// The alignment that the access needs.
        bytes: u32,
    },
    /// A read of something that nobody wrote.
    Uninitialised {
        /// What was read.
        space: Space,
        /// The address; for a register, a number that means nothing outside the emulator.
        address: u64,
    },
    /// Two threads touch the same byte of shared memory, one of them writes, and no barrier stands between them.
    Race {
        /// The address in shared memory.
        address: u64,
        /// The thread of the earlier access.
        other: [u32; 3],
        /// The PTX line of the earlier access.
        line: u32,
    },
    /// Threads wait for others that can never arrive: those have exited or wait elsewhere.
    DivergentBarrier {
        /// How many threads wait here.
        waiting: u32,
        /// How many are needed.
        expected: u32,
    },
    /// A read or write of bytes that an asynchronous copy or product still writes or reads: nobody has waited for it, or not this thread.
    InFlight {
        /// The address in shared memory.
        address: u64,
    },
    /// Lanes of one instruction write different values to the same bytes: which one stays is chance.
    WriteConflict {
        /// The address in shared memory.
        address: u64,
        /// The thread of the other lane.
        other: [u32; 3],
    },
    /// A lane takes part in an instruction whose member mask does not name it, or lanes disagree about the mask.
    MemberMask {
        /// The mask of the faulting lane.
        members: u32,
    },
    /// An instruction, or a form of one, that the emulator does not know: the module is refused.
    UnknownInstruction,
    /// Text that is not PTX as this crate understands it: what was expected, and what was found.
    Malformed(Box<str>),
    /// The module has no such kernel.
    UnknownKernel,
    /// A launch or a host call whose numbers do not fit the kernel or the machine.
    BadArguments(Box<str>),
    /// Bytes that a thread wrote in the ordinary way are touched by a bulk copy or by `wgmma`, and no `fence.proxy.async` of that thread
    /// stands between.
    ProxyFence {
        /// The address in shared memory.
        address: u64,
        /// The thread that wrote.
        other: [u32; 3],
    },
    /// A register of a `wgmma` that is under way is read or written: no `wgmma.wait_group` stands between.
    RegisterInFlight,
    /// A `wgmma` takes a register that was touched, or had sums of another shape, after the last `wgmma.fence`.
    MatrixFence,
    /// The four warps of a warpgroup do not execute the same `wgmma`, or there are no four.
    Warpgroup(Box<str>),
    /// A block reaches for one of its cluster that is not there, or not any more.
    Cluster(Box<str>),
    /// A matrix descriptor or a tensor map that the hardware does not take.
    Descriptor(Box<str>),
    /// A tile is read with another swizzle than it was written with.
    Swizzle {
        /// The address in shared memory.
        address: u64,
        /// How it was written.
        written: Swizzle,
        /// How it is read.
        read: Swizzle,
    },
    /// A thread waits for a phase of an `mbarrier` that never ends: all others wait, too, or have exited.
    PhaseNeverEnds {
        /// The address in shared memory.
        address: u64,
        /// The parity that is waited for.
        parity: u32,
        /// Arrivals that the phase at hand lacks.
        missing: u32,
        /// Bytes that it lacks; negative where more came than were expected.
        bytes: i64,
    },
    /// A kernel ends, and the bytes that an `mbarrier` expected are not those that came.
    Transactions {
        /// The address in shared memory.
        address: u64,
        /// Bytes that are missing; negative where more came than were expected.
        bytes: i64,
    },
    /// `setmaxnreg` to a number that is none, or that the block's registers do not give.
    Registers {
        /// Registers of a thread that were asked for.
        wanted: u32,
        /// Those that it has.
        has: u32,
    },
    /// An access to memory that has been freed.
    UseAfterFree {
        /// The first byte of the access.
        address: u64,
    },
    /// There is not so much global memory left.
    OutOfMemory {
        /// How many bytes were asked for.
        bytes: u64,
    },
    /// One warp executed more instructions than [`crate::Options::instruction_limit`].
    TooLong,
    /// The kernel executed `trap` or `brkpt`.
    Trap,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds { space, address, bytes } => {
                write!(f, "access of {bytes} bytes at {address:#x} out of bounds of {space}")
            }
            Self::Misaligned { space, address, bytes } => {
                write!(f, "address {address:#x} in {space} is no multiple of {bytes}")
            }
            Self::Uninitialised { space: Space::Register, .. } => f.write_str("read of a register that nobody wrote"),
            Self::Uninitialised { space, address } => write!(f, "read of uninitialised {space} at {address:#x}"),
            Self::Race { address, other, line } => {
                write!(f, "race at shared address {address:#x} with thread {other:?} at line {line}")
            }
            Self::DivergentBarrier { waiting, expected } => {
                write!(f, "{waiting} threads wait, {expected} are expected, and the others never arrive")
            }
            Self::InFlight { address } => {
                write!(f, "access to shared address {address:#x}, which something asynchronous still uses")
            }
            Self::ProxyFence { address, other } => {
                write!(
                    f,
                    "no proxy fence of thread {other:?}, which wrote shared address {address:#x}, before its asynchronous use"
                )
            }
            Self::RegisterInFlight => f.write_str("access to a register of a wgmma that nobody has waited for"),
            Self::MatrixFence => f.write_str("no wgmma.fence between an access to a register and a wgmma that takes it"),
            Self::Warpgroup(what) | Self::Cluster(what) | Self::Descriptor(what) => f.write_str(what),
            Self::Swizzle { address, written, read } => {
                write!(f, "shared address {address:#x} was written with swizzle {written:?} and is read with {read:?}")
            }
            Self::PhaseNeverEnds { address, parity, missing, bytes } => {
                write!(
                    f,
                    "wait for the end of a phase of parity {parity} at shared address {address:#x}, which lacks {missing} arrivals and {bytes} bytes for ever"
                )
            }
            Self::Transactions { address, bytes } => {
                write!(f, "the mbarrier at shared address {address:#x} lacks {bytes} bytes at the end")
            }
            Self::Registers { wanted, has } => {
                write!(f, "setmaxnreg to {wanted} registers of a thread that has {has}: not a legal number, or never free")
            }
            Self::WriteConflict { address, other } => {
                write!(f, "thread {other:?} writes another value to shared address {address:#x} in the same instruction")
            }
            Self::MemberMask { members } => write!(f, "the member mask {members:#010x} does not fit the lanes"),
            Self::UnknownInstruction => f.write_str("unknown instruction"),
            Self::Malformed(what) => f.write_str(what),
            Self::OutOfMemory { bytes } => write!(f, "no room for {bytes} bytes of global memory"),
            Self::UnknownKernel => f.write_str("no such kernel in the module"),
            Self::BadArguments(what) => f.write_str(what),
            Self::UseAfterFree { address } => write!(f, "access to freed memory at {address:#x}"),
            Self::TooLong => f.write_str("a warp exceeded the instruction limit"),
            Self::Trap => f.write_str("trap"),
        }
    }
}

/// A line of the source that the PTX was compiled from, where it carries `.loc` directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// The name in the `.file` directive, empty where there is none.
    pub file: Box<str>,
    /// The line, from 1.
    pub line: u32,
}

/// A fault with its place: which thread, executing what.
///
/// Faults of host calls (`read`, `write`, `free`, a refused launch) have line 0 and no instruction; those of parsing have no thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kernel, empty for host calls.
    pub kernel: Box<str>,
    /// The line of the PTX text, from 1; 0 for host calls.
    pub line: u32,
    /// The text of the instruction.
    pub instruction: Box<str>,
    /// `%ctaid` of the faulting thread.
    pub block: [u32; 3],
    /// `%tid` of the faulting thread.
    pub thread: [u32; 3],
    /// What went wrong.
    pub kind: FaultKind,
    /// The source line, where the PTX names it.
    pub source: Option<Box<SourceLine>>,
}

impl Fault {
    /// A fault of a host call.
    pub(crate) fn host(kernel: &str, kind: FaultKind) -> Fault {
        Fault { kernel: kernel.into(), line: 0, instruction: "".into(), block: [0; 3], thread: [0; 3], kind, source: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.kernel.is_empty() {
            write!(f, "{}: ", self.kernel)?;
        }
        write!(f, "{}", self.kind)?;
        if !self.instruction.is_empty() {
            write!(f, " in `{}`", self.instruction)?;
        }
        if self.line == 0 {
            return Ok(());
        }
        write!(f, " (PTX line {}", self.line)?;
        if let Some(source) = &self.source {
            write!(f, ", {}:{}", source.file, source.line)?;
        }
        f.write_str(")")?;
        match &self.kind {
            // Found before anything ran.
            FaultKind::UnknownInstruction | FaultKind::Malformed(_) => Ok(()),
            _ => write!(f, ", block {:?}, thread {:?}", self.block, self.thread),
        }
    }
}

impl std::error::Error for Fault {}

/// Why a text is refused, before it is known as a [`Fault`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParseError {
    pub line: u32,
    /// The text of the instruction, where it is one that the emulator does not know.
    pub instruction: Option<Box<str>>,
    pub message: Box<str>,
}

impl ParseError {
    pub fn new(line: u32, message: impl Into<Box<str>>) -> ParseError {
        ParseError { line, instruction: None, message: message.into() }
    }

    pub fn unknown(line: u32, instruction: Box<str>) -> ParseError {
        ParseError { line, instruction: Some(instruction), message: "".into() }
    }

    /// The fault that the caller sees.
    pub fn fault(self, kernel: &str) -> Fault {
        let (instruction, kind) = match self.instruction {
            Some(instruction) => (instruction, FaultKind::UnknownInstruction),
            None => ("".into(), FaultKind::Malformed(self.message)),
        };
        Fault { line: self.line, instruction, ..Fault::host(kernel, kind) }
    }
}
