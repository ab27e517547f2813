//! Where a tensor's bytes lie in a file, and how they become contiguous bytes of an engine element type.

use tubelet_engine::{DType, Error, Result};

use super::source::{Source, zeroed};

/// Element types as they occur in files. A superset of the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F64,
    F32,
    BF16,
    F16,
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

impl Stored {
    /// Bytes per element in the file.
    pub(super) fn size(self) -> usize {
        match self {
            Stored::F64 | Stored::I64 | Stored::U64 => 8,
            Stored::F32 | Stored::I32 | Stored::U32 => 4,
            Stored::BF16 | Stored::F16 | Stored::I16 | Stored::U16 => 2,
            Stored::Bool | Stored::I8 | Stored::U8 => 1,
        }
    }

    /// The engine's type that holds it. The engine has no 64-bit integers: labels, indices and counters fit 32 bits.
    pub(super) fn dtype(self) -> DType {
        match self {
            Stored::F64 => DType::F64,
            Stored::F32 => DType::F32,
            Stored::BF16 => DType::BF16,
            Stored::F16 => DType::F16,
            Stored::Bool | Stored::U8 => DType::U8,
            Stored::I8 | Stored::I16 | Stored::I32 | Stored::I64 => DType::I32,
            Stored::U16 | Stored::U32 | Stored::U64 => DType::I32,
        }
    }

    /// Whether a file's elements are the engine's, byte for byte.
    fn is_native(self) -> bool {
        self.dtype() != DType::I32 || self == Stored::I32
    }

    /// Whether an element has a negative.
    pub(super) fn is_signed(self) -> bool {
        !matches!(self, Stored::Bool | Stored::U8 | Stored::U16 | Stored::U32 | Stored::U64)
    }

    /// One little-endian integer of this type.
    fn integer(self, bytes: &[u8]) -> i128 {
        let signed = self.is_signed();
        let fill = if signed && bytes.last().is_some_and(|&b| b >= 0x80) { 0xff } else { 0 };
        let mut wide = [fill; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    }
}

/// Where one tensor lies. `start + span` was checked against the file when the place was made.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Which of the checkpoint's files.
    pub(super) file: usize,
    /// First byte of the first element.
    pub(super) start: u64,
    /// Bytes from the first element to the end of the last in memory order.
    pub(super) span: usize,
    /// Element type in the file.
    pub(super) stored: Stored,
    /// Steps in elements where the elements are not in logical order.
    pub(super) strides: Option<Vec<usize>>,
    /// CRC-32 of the span, where the file has one.
    pub(super) crc: Option<u32>,
    /// Whether the tensor is the negative of what is stored.
    pub(super) negative: bool,
}

/// Product of the dimensions; `None` if it overflows.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Elements from the first to the last in memory, both counted; `None` if it overflows.
pub(super) fn extent(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().zip(strides).try_fold(1usize, |n, (&d, &s)| n.checked_add((d - 1).checked_mul(s)?))
}

/// Whether memory order is logical order. Strides of dimensions of size 1 mean nothing.
pub(super) fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.contains(&0)
        || shape.iter().zip(strides).rev().all(|(&d, &s)| {
            let fits = d == 1 || s == expected;
            expected = expected.saturating_mul(d);
            fits
        })
}

impl Place {
    /// Reads the tensor into `out`, which has exactly the bytes of its shape in `self.stored.dtype()`.
    pub(super) fn read(&self, source: &Source, shape: &[usize], name: &str, out: &mut [u8]) -> Result<()> {
        if self.strides.is_none() && self.stored.is_native() {
            source.read_exact_at(self.start, out)?;
            self.verify(source, name, out)?;
            self.apply_sign(out);
            return Ok(());
        }
        let raw = source.read_vec(self.start, self.span)?;
        self.verify(source, name, &raw)?;
        let mut ordered = match &self.strides {
            Some(strides) => {
                let mut ordered = Vec::new();
                zeroed(&mut ordered, elements(shape).unwrap_or(0).saturating_mul(self.stored.size()))?;
                gather(&raw, shape, strides, self.stored.size(), &mut ordered);
                ordered
            }
            None => raw,
        };
        self.apply_sign(&mut ordered);
        if !self.stored.is_native() {
            return to_i32(self.stored, &ordered, out).map_err(|value| {
                source.error("checkpoint", format!("tensor `{name}`: the integer {value} does not fit 32 bits"))
            });
        }
        out.copy_from_slice(&ordered);
        Ok(())
    }

    /// Makes each element its negative where the tensor is one: floats by their sign bit, integers in two's complement.
    fn apply_sign(&self, bytes: &mut [u8]) {
        if !self.negative {
            return;
        }
        for element in bytes.chunks_exact_mut(self.stored.size()) {
            if self.stored.dtype().is_float() {
                element.last_mut().into_iter().for_each(|top| *top ^= 0x80);
            } else {
                let negated = self.stored.integer(element).wrapping_neg().to_le_bytes();
                element.copy_from_slice(&negated[..self.stored.size()]);
            }
        }
    }

    fn verify(&self, source: &Source, name: &str, bytes: &[u8]) -> Result<(), Error> {
        match self.crc {
            Some(crc) if rawzip::crc32(bytes) != crc => {
                Err(source.error("checkpoint", format!("tensor `{name}`: the data is corrupt (its CRC-32 differs)")))
            }
            _ => Ok(()),
        }
    }
}

/// Copies strided elements of `size` bytes into logical order.
fn gather(raw: &[u8], shape: &[usize], strides: &[usize], size: usize, out: &mut [u8]) {
    let mut index = vec![0usize; shape.len()];
    let mut at = 0usize;
    for element in out.chunks_exact_mut(size) {
        element.copy_from_slice(&raw[at * size..(at + 1) * size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
}

/// Integers of another type as 32-bit ones; the value that does not fit otherwise.
fn to_i32(stored: Stored, from: &[u8], out: &mut [u8]) -> Result<(), i128> {
    for (from, to) in from.chunks_exact(stored.size()).zip(out.as_chunks_mut::<4>().0) {
        let value = stored.integer(from);
        *to = i32::try_from(value).map_err(|_| value)?.to_le_bytes();
    }
    Ok(())
}
