//! What multiplies a tile of rows with a panel of columns: vectors of f32, vectors of [pairs](super::pairs), or [AMX's tiles](super::amx) of pairs.

use super::{
    product::{Tile, part},
    simd::{Level, Simd},
};

/// A thread's unit, for the length of a task.
pub(super) enum Unit {
    /// Any level's vectors.
    Floats,
    /// `vdpbf16ps`.
    #[cfg(target_arch = "x86_64")]
    Pairs,
    #[cfg(target_arch = "x86_64")]
    Tiles(super::amx::Tiles),
}

impl Unit {
    /// For operands of f32, or of pairs, which need a level that [has](super::pairs::wanted) them.
    pub fn new(level: Level, pairs: bool) -> Unit {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Amx if pairs => Unit::Tiles(super::amx::Tiles::default()),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 if pairs => Unit::Pairs,
            _ => {
                debug_assert!(!pairs, "{level} has no pairs");
                Unit::Floats
            }
        }
    }

    /// How `count` rows are cut into tiles, as first row and end.
    #[inline(always)]
    pub fn tiles<S: Simd>(&self, count: usize) -> impl Iterator<Item = (usize, usize)> + use<S> {
        // Equal shares of as many as fit into registers; whole tiles of hardware, and what is left, which costs a configuration.
        let whole = match self {
            #[cfg(target_arch = "x86_64")]
            Unit::Tiles(_) => Some(super::amx::ROWS),
            _ => None,
        };
        let tiles = count.div_ceil(whole.unwrap_or(S::MR));
        (0..tiles).map(move |i| match whole {
            Some(rows) => (i * rows, count.min((i + 1) * rows)),
            None => part(count, tiles, i),
        })
    }

    /// Multiplies.
    ///
    /// # Safety
    /// As [`super::product::tile_rows`], with words of pairs for f32 where the unit takes those, and rows as [`Self::tiles`] cuts them.
    #[inline(always)]
    pub unsafe fn tile_rows<S: Simd>(&mut self, tile: Tile) {
        // SAFETY: the level that the unit was made for is available; the rest is the caller's word.
        unsafe {
            match self {
                Unit::Floats => S::enter(tile),
                #[cfg(target_arch = "x86_64")]
                Unit::Pairs => super::pairs::tile_rows(tile),
                #[cfg(target_arch = "x86_64")]
                Unit::Tiles(tiles) => tiles.tile_rows(tile),
            }
        }
    }
}
