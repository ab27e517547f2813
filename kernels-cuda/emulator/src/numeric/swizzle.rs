//! Permutations of 16-byte chunks, which keep the rows of a matrix in different banks.

/// How the chunks of rows of 32, 64 or 128 bytes are permuted: bits of the address from the seventh on are added, without carry, to those from
/// the fourth on. Bulk copies write so, matrix descriptors read so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Chunks lie where they are.
    #[default]
    None,
    /// Rows of 32 bytes, in a pattern that repeats every 256.
    B32,
    /// Rows of 64 bytes, every 512.
    B64,
    /// Rows of 128 bytes, every 1024.
    B128,
}

impl Swizzle {
    /// Bytes of a row; without swizzle, those of a chunk.
    pub fn width(self) -> u32 {
        match self {
            Swizzle::None => 16,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }

    /// Where a byte goes.
    pub(crate) fn apply(self, address: u32) -> u32 {
        address ^ (address >> 3 & (self.width() - 16))
    }

    /// Bytes after which the pattern repeats.
    pub(crate) fn period(self) -> u32 {
        match self {
            Swizzle::None => 16,
            _ => 8 * self.width(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Swizzle;

    #[test]
    fn a_column_of_chunks_lies_in_all_banks() {
        // Eight rows of 128 bytes: the chunks of a column, which ldmatrix and wgmma read at once, are eight different ones.
        let banks = |column: u32| (0..8).map(move |row| Swizzle::B128.apply(row * 128 + column * 16) % 128 / 16);
        for column in 0..8 {
            assert!(banks(column).enumerate().all(|(row, bank)| bank == column ^ row as u32));
        }
        let moved: Vec<u32> = (0..8).map(|row| Swizzle::B64.apply(row * 64) % 64 / 16).collect();
        assert_eq!(moved, [0, 0, 1, 1, 2, 2, 3, 3]);
        let moved: Vec<u32> = (0..8).map(|row| Swizzle::B32.apply(row * 32) % 32 / 16).collect();
        assert_eq!(moved, [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(Swizzle::None.apply(0x3f0), 0x3f0);
    }
}
