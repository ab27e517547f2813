//! Matrix descriptors: 64 bits that tell `wgmma` where the core matrices of an operand lie in shared memory.
//!
//! A core matrix is eight rows of 16 bytes. Without swizzle each lies in one piece; with one, the rows of as many of them as it is wide lie side
//! by side (PTX ISA, "Shared Memory Matrix Layout").

use crate::numeric::swizzle::Swizzle;

/// A descriptor, decoded. Offsets are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    start: u32,
    leading: u32,
    stride: u32,
    pub swizzle: Swizzle,
}

impl Descriptor {
    /// From its bits, or what is wrong with them.
    pub fn new(bits: u64) -> Result<Descriptor, String> {
        let field = |from: u32| (bits >> from & 0x3fff) as u32 * 16;
        let swizzle = match bits >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::B128,
            2 => Swizzle::B64,
            _ => Swizzle::B32,
        };
        let descriptor = Descriptor { start: field(0), leading: field(16), stride: field(32), swizzle };
        // Bits that have no meaning are zero. The base offset belongs to tiles whose rows do not begin where the pattern does.
        if bits & !(0x3fff | 0x3fff << 16 | 0x3fff << 32 | 3 << 62) != 0 {
            return Err(format!("the matrix descriptor {bits:#x} has bits that must be zero, or a base offset"));
        }
        if descriptor.start % swizzle.period() / 128 != 0 {
            let (start, period) = (descriptor.start, swizzle.period());
            return Err(format!(
                "a matrix with swizzle {swizzle:?} begins at {start:#x}, not in the first row of {period} bytes"
            ));
        }
        Ok(descriptor)
    }

    /// The offset in shared memory of eight neighbours along K: the `half`-th of row (or column) `line`.
    pub fn along(&self, line: u32, half: u32) -> u32 {
        let (row, group) = (line % 8, line / 8);
        let inside = match self.swizzle {
            Swizzle::None => row * 16 + half * self.leading,
            swizzle => row * swizzle.width() + half * 16,
        };
        self.place(inside + group * self.stride)
    }

    /// The offset of eight neighbours along M or N: the `chunk`-th of depth `k`.
    pub fn across(&self, chunk: u32, k: u32) -> u32 {
        let (row, group) = (k % 8, k / 8);
        self.place(match self.swizzle {
            Swizzle::None => row * 16 + group * self.leading + chunk * self.stride,
            swizzle => {
                let chunks = swizzle.width() / 16;
                chunk % chunks * 16 + chunk / chunks * self.leading + row * swizzle.width() + group * self.stride
            }
        })
    }

    fn place(&self, offset: u32) -> u32 {
        self.swizzle.apply(self.start + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_the_isa_has_them() {
        let bits = (0x1234 / 16) | ((0x400 / 16) << 16) | ((0x80 / 16) << 32);
        let expected = Descriptor { start: 0x1230, leading: 0x400, stride: 0x80, swizzle: Swizzle::None };
        assert_eq!(Descriptor::new(bits), Ok(expected));
        let modes = [Swizzle::None, Swizzle::B128, Swizzle::B64, Swizzle::B32];
        for (mode, swizzle) in modes.into_iter().enumerate() {
            assert_eq!(Descriptor::new((mode as u64) << 62).map(|d| d.swizzle), Ok(swizzle));
        }
        assert!(Descriptor::new(1 << 14).is_err() && Descriptor::new(1 << 49).is_err());
        assert!(Descriptor::new((1 << 62) | (128 / 16)).is_err(), "the second row of a pattern");
        assert!(Descriptor::new((1 << 62) | (96 / 16)).is_ok(), "a step along K");
    }
}
