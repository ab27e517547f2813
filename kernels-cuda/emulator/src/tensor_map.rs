//! Tensor maps: what a bulk copy of a tile must know of the tensor.
//!
//! On a GPU the driver encodes them into 128 bytes that mean something to the hardware alone (`cuTensorMapEncodeTiled`). The emulator has an
//! encoding of its own, with the same limits, and takes no other.

use crate::fault::{Fault, FaultKind};
use crate::numeric::swizzle::Swizzle;

/// The bytes of an encoded map, and their alignment.
pub(crate) const BYTES: usize = 128;
pub(crate) const ALIGN: u64 = 64;

/// The mark of this emulator's encoding.
const MARK: u64 = 0x7465_6e73_6f72_6d70;
/// The limits of the hardware.
const MOST_RANK: usize = 5;
const MOST_TILE: u32 = 256;
const MOST_STRIDE: u64 = 1 << 40;

/// A tensor in global memory, and the tiles that bulk copies move of it. Sizes and strides stand innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    /// The address of element zero, a multiple of 16.
    pub address: u64,
    /// Bytes of an element.
    pub element: u32,
    /// Elements along each of one to five dimensions.
    pub sizes: Vec<u64>,
    /// Bytes from one element to the next along each dimension but the first, whose elements lie side by side: multiples of 16.
    pub strides: Vec<u64>,
    /// Elements of a tile along each dimension, 256 at most.
    pub tile: Vec<u32>,
    /// How the rows of a tile lie in shared memory. They are no longer than it is wide.
    pub swizzle: Swizzle,
}

impl TensorMap {
    /// The map as the parameter of a kernel.
    ///
    /// # Errors
    /// [`FaultKind::BadArguments`] for what the driver refuses, too.
    pub fn encode(&self) -> Result<[u64; 16], Fault> {
        self.check().map_err(|what| Fault::host("", FaultKind::BadArguments(format!("a tensor map with {what}").into())))?;
        let rank = self.sizes.len();
        let mut words = [0; 16];
        words[0] = MARK;
        words[1] = rank as u64 | u64::from(self.element) << 8 | (self.swizzle as u64) << 16;
        words[2] = self.address;
        for (d, &size) in self.sizes.iter().enumerate() {
            words[3 + d] = size - 1;
        }
        for (d, &stride) in self.strides.iter().enumerate() {
            words[8 + d] = stride;
        }
        // Sixteen bits each: four in a word, the fifth in the next.
        for (d, &tile) in self.tile.iter().enumerate() {
            words[12 + d / 4] |= u64::from(tile) << (16 * (d % 4));
        }
        Ok(words)
    }

    /// The map that a kernel was given, or what is wrong with it.
    pub(crate) fn decode(words: &[u64; 16]) -> Result<TensorMap, String> {
        if words[0] != MARK {
            return Err("128 bytes that are no tensor map".into());
        }
        let rank = (words[1] & 0xff) as usize;
        let dimensions = || 0..rank.min(MOST_RANK);
        let map = TensorMap {
            address: words[2],
            element: (words[1] >> 8 & 0xff) as u32,
            sizes: dimensions().map(|d| words[3 + d].saturating_add(1)).collect(),
            strides: dimensions().skip(1).map(|d| words[7 + d]).collect(),
            tile: dimensions().map(|d| (words[12 + d / 4] >> (16 * (d % 4)) & 0xffff) as u32).collect(),
            swizzle: match words[1] >> 16 & 0xff {
                0 => Swizzle::None,
                1 => Swizzle::B32,
                2 => Swizzle::B64,
                _ => Swizzle::B128,
            },
        };
        map.check()?;
        Ok(map)
    }

    fn check(&self) -> Result<(), String> {
        let rank = self.sizes.len();
        if !(1..=MOST_RANK).contains(&rank) || self.strides.len() + 1 != rank || self.tile.len() != rank {
            return Err(format!("{rank} sizes, {} strides, a tile of {} dimensions", self.strides.len(), self.tile.len()));
        }
        if !matches!(self.element, 1 | 2 | 4 | 8) {
            return Err(format!("elements of {} bytes", self.element));
        }
        if !self.address.is_multiple_of(16) {
            return Err(format!("the address {:#x}, which is no multiple of 16", self.address));
        }
        if let Some(size) = self.sizes.iter().find(|&&size| !(1..=1 << 32).contains(&size)) {
            return Err(format!("a dimension of {size}"));
        }
        if let Some(stride) = self.strides.iter().find(|&&s| !s.is_multiple_of(16) || s >= MOST_STRIDE) {
            return Err(format!("a stride of {stride} bytes, which is no multiple of 16 below 2^40"));
        }
        if self.tile.iter().any(|tile| !(1..=MOST_TILE).contains(tile)) {
            return Err(format!("a tile {:?}, each of whose dimensions is 1 to 256", self.tile));
        }
        let row = self.tile[0] * self.element;
        match self.swizzle {
            _ if !row.is_multiple_of(16) => Err(format!("rows of {row} bytes in a tile, which is no multiple of 16")),
            Swizzle::None => Ok(()),
            swizzle if row > swizzle.width() => Err(format!("rows of {row} bytes, more than its swizzle {swizzle:?}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> TensorMap {
        TensorMap {
            address: 1 << 32,
            element: 2,
            sizes: vec![100, 1 << 32, 3, 4, 5],
            strides: vec![208, 20_800, 41_600, 83_200],
            tile: vec![64, 256, 1, 2, 3],
            swizzle: Swizzle::B128,
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let all = [
            map(),
            TensorMap { sizes: vec![7], strides: vec![], tile: vec![8], swizzle: Swizzle::None, ..map() },
            TensorMap { element: 4, tile: vec![8, 1, 1, 1, 1], swizzle: Swizzle::B32, ..map() },
        ];
        for map in all {
            assert_eq!(TensorMap::decode(&map.encode().expect("it is legal")), Ok(map));
        }
        assert!(TensorMap::decode(&[0; 16]).is_err());
    }

    #[test]
    fn what_the_driver_refuses_is_refused() {
        let wrong = [
            TensorMap { address: 8, ..map() },
            TensorMap { strides: vec![200, 20_800, 41_600, 83_200], ..map() },
            TensorMap { tile: vec![72, 1, 1, 1, 1], ..map() },
            TensorMap { tile: vec![60, 1, 1, 1, 1], ..map() },
            TensorMap { tile: vec![64, 257, 1, 1, 1], ..map() },
            TensorMap { sizes: vec![100, 0, 3, 4, 5], ..map() },
            TensorMap { strides: vec![208], ..map() },
            TensorMap { element: 3, ..map() },
        ];
        for map in wrong {
            assert!(matches!(map.encode(), Err(Fault { kind: FaultKind::BadArguments(_), .. })), "{map:?}");
        }
    }
}
