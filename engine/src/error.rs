//! Errors are values that name the operation, the shapes and what was expected.

use std::{fmt, io, path::PathBuf};

use crate::DType;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Shapes, strides or parameters of an operation do not fit together.
    Shape {
        /// The operation, as in the grid.
        op: &'static str,
        /// The offending shapes and what was expected.
        message: String,
    },
    /// An operation does not take this element type.
    DType {
        /// The operation, as in the grid.
        op: &'static str,
        /// Which operand, by name.
        operand: &'static str,
        /// What came.
        got: DType,
        /// What is taken.
        expected: &'static str,
    },
    /// The tensors of one operation live on different devices.
    DeviceMismatch {
        /// The operation, as in the grid.
        op: &'static str,
        /// The devices, by name.
        devices: [String; 2],
    },
    /// A device has no kernel for this operation with these operands.
    Unsupported {
        /// The operation, as in the grid.
        op: &'static str,
        /// The device, by name.
        device: String,
        /// What is missing.
        message: String,
    },
    /// A device, its driver or its adapter is missing or failed.
    Device {
        /// The device, by name.
        device: String,
        /// What happened and what would help.
        message: String,
    },
    /// An allocation would pass the memory limit, or the system refused it.
    OutOfMemory {
        /// The device, by name.
        device: String,
        /// Bytes asked for.
        requested: usize,
        /// Bytes in use.
        live: usize,
        /// The limit in bytes, if one is set.
        limit: Option<usize>,
    },
    /// A size does not fit the address space.
    Overflow {
        /// What was being sized.
        what: String,
    },
    /// A count does not fit into 64 bits.
    Count {
        /// What was being counted.
        what: String,
    },
    /// Reading or writing a file failed.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The content of a file or stream is not what it should be.
    Format {
        /// The file or stream, and the format it should have.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// An argument or configuration value is out of range or contradicts another.
    Invalid {
        /// The argument, by the name the user knows.
        what: String,
        /// What is wrong and what is accepted.
        message: String,
    },
    /// A checkpoint does not fit the model: every offending tensor is listed.
    Weights {
        /// Names the model needs and the file lacks.
        missing: Vec<String>,
        /// Names in the file that the model does not know.
        unexpected: Vec<String>,
        /// `name: file has […], model needs […]`.
        mismatched: Vec<String>,
    },
}

impl Error {
    /// A [`Error::Shape`] of operation `op`.
    pub fn shape(op: &'static str, message: impl Into<String>) -> Self {
        Error::Shape { op, message: message.into() }
    }
    /// A [`Error::Format`].
    pub fn format(what: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Format { what: what.into(), message: message.into() }
    }
    /// A [`Error::Invalid`].
    pub fn invalid(what: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), message: message.into() }
    }
    /// A [`Error::Io`], for use with `map_err`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Shape { op, message } => write!(f, "{op}: {message}"),
            Error::DType { op, operand, got, expected } => {
                write!(f, "{op}: {operand} is {got}, expected {expected}")
            }
            Error::DeviceMismatch { op, devices: [a, b] } => {
                write!(f, "{op}: operands live on different devices, {a} and {b}")
            }
            Error::Unsupported { op, device, message } => write!(f, "{op}: not supported on {device}: {message}"),
            Error::Device { device, message } => write!(f, "{device}: {message}"),
            Error::OutOfMemory { device, requested, live, limit } => {
                write!(f, "{device}: out of memory: {requested} bytes requested, {live} in use")?;
                match limit {
                    Some(limit) => write!(f, ", limit {limit}"),
                    None => Ok(()),
                }
            }
            Error::Overflow { what } => write!(f, "{what} does not fit the address space"),
            Error::Count { what } => write!(f, "{what} does not fit into 64 bits"),
            Error::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Error::Format { what, message } | Error::Invalid { what, message } => write!(f, "{what}: {message}"),
            Error::Weights { missing, unexpected, mismatched } => {
                write!(
                    f,
                    "the checkpoint does not fit the model: {} missing, {} unexpected, {} of another shape",
                    missing.len(),
                    unexpected.len(),
                    mismatched.len()
                )?;
                for (title, names) in [("missing", missing), ("unexpected", unexpected), ("shape", mismatched)] {
                    for name in names {
                        write!(f, "\n  {title}: {name}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
