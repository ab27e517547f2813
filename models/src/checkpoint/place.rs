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
    U8,
    Bool,
    I32,
    I64,
}

impl Stored {
    /// Bytes per element in the file.
    pub(super) fn size(self) -> usize {
        match self {
            Stored::F64 | Stored::I64 => 8,
            Stored::F32 | Stored::I32 => 4,
            Stored::BF16 | Stored::F16 => 2,
            Stored::U8 | Stored::Bool => 1,
        }
    }

    /// The engine's type that holds it. The engine has no 64-bit integers: labels, indices and counters fit 32 bits.
    pub(super) fn dtype(self) -> DType {
        match self {
            Stored::F64 => DType::F64,
            Stored::F32 => DType::F32,
            Stored::BF16 => DType::BF16,
            Stored::F16 => DType::F16,
            Stored::U8 | Stored::Bool => DType::U8,
            Stored::I32 | Stored::I64 => DType::I32,
        }
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
    /// Length in bytes of the name's part that is the path of the dictionary holding the tensor, with its final dot.
    pub(super) wrapper: usize,
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
        if self.strides.is_none() && self.stored != Stored::I64 {
            source.read_exact_at(self.start, out)?;
            return self.verify(source, name, out);
        }
        let raw = source.read_vec(self.start, self.span)?;
        self.verify(source, name, &raw)?;
        let ordered = match &self.strides {
            Some(strides) => {
                let mut ordered = Vec::new();
                zeroed(&mut ordered, elements(shape).unwrap_or(0).saturating_mul(self.stored.size()))?;
                gather(&raw, shape, strides, self.stored.size(), &mut ordered);
                ordered
            }
            None => raw,
        };
        if self.stored == Stored::I64 {
            return narrow(&ordered, out).map_err(|value| {
                let message = format!("tensor `{name}`: the 64-bit integer {value} does not fit 32 bits");
                source.error("checkpoint", message)
            });
        }
        out.copy_from_slice(&ordered);
        Ok(())
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

/// 64-bit to 32-bit integers; the value that does not fit otherwise.
fn narrow(wide: &[u8], out: &mut [u8]) -> Result<(), i64> {
    for (from, to) in wide.as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<4>().0) {
        let value = i64::from_le_bytes(*from);
        *to = i32::try_from(value).map_err(|_| value)?.to_le_bytes();
    }
    Ok(())
}
