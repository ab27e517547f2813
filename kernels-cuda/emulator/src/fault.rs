//! What can go wrong, as values.

use std::fmt;

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
        /// The address, or the number of the register slot.
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
    /// An instruction, or a form of one, that the emulator does not know.
    UnknownInstruction,
    /// The module has no such kernel.
    UnknownKernel,
    /// A launch or a host call whose numbers do not fit the kernel or the machine.
    BadArguments(Box<str>),
    /// An access to memory that has been freed.
    UseAfterFree {
        /// The first byte of the access.
        address: u64,
    },
    /// One warp executed more instructions than [`crate::Options::max_instructions`].
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
            Self::Uninitialised { space: Space::Register, address } => write!(f, "read of an uninitialised register (slot {address})"),
            Self::Uninitialised { space, address } => write!(f, "read of uninitialised {space} at {address:#x}"),
            Self::Race { address, other, line } => {
                write!(f, "race at shared address {address:#x} with thread {other:?} at line {line}")
            }
            Self::DivergentBarrier { waiting, expected } => {
                write!(f, "{waiting} threads wait, {expected} are expected, and the others never arrive")
            }
            Self::UnknownInstruction => f.write_str("unknown instruction"),
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
/// Faults of host calls (`read`, `write`, `free`, a refused launch) have line 0 and no instruction.
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
        if self.line == 0 {
            return match self.kernel.is_empty() {
                true => write!(f, "{}", self.kind),
                false => write!(f, "{}: {}", self.kernel, self.kind),
            };
        }
        write!(f, "{}: {} in `{}` (PTX line {}", self.kernel, self.kind, self.instruction, self.line)?;
        if let Some(source) = &self.source {
            write!(f, ", {}:{}", source.file, source.line)?;
        }
        write!(f, "), block {:?}, thread {:?}", self.block, self.thread)
    }
}

impl std::error::Error for Fault {}

/// Text that is not PTX as this crate understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line of the PTX text, from 1.
    pub line: u32,
    /// What was expected, and what was found.
    pub message: Box<str>,
}

impl ParseError {
    pub(crate) fn new(line: u32, message: impl Into<Box<str>>) -> ParseError {
        ParseError { line, message: message.into() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParseError {}
