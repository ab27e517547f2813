//! What multiplies a tile of rows with a panel of columns: vectors of f32, vectors of [pairs](super::pairs), or [AMX's tiles](super::amx) of pairs.

#[cfg(target_arch = "x86_64")]
use super::{amx, pairs, product};
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
    Tiles(amx::Tiles),
}

impl Unit {
    /// For operands of f32, or of pairs, which need a level that [has](super::pairs::wanted) them.
    pub fn new(level: Level, pairs: bool) -> Unit {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Amx if pairs => Unit::Tiles(amx::Tiles::default()),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 if pairs => Unit::Pairs,
            _ => {
                debug_assert!(!pairs, "{level} has no pairs");
                Unit::Floats
            }
        }
    }

    /// Rows of a tile, at most.
    #[inline(always)]
    pub fn rows<S: Simd>(&self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Unit::Tiles(_) => amx::ROWS,
            _ => S::MR,
        }
    }

    /// How `count` rows are cut into tiles, as first row and end.
    #[inline(always)]
    pub fn tiles<S: Simd>(&self, count: usize) -> impl Iterator<Item = (usize, usize)> + use<S> {
        self.cut(count, self.rows::<S>())
    }

    /// The same for tiles of up to `most`: equal shares of what is in registers; whole tiles of hardware, and what is left, which costs a
    /// configuration.
    #[inline(always)]
    pub fn cut(&self, count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let whole = match self {
            #[cfg(target_arch = "x86_64")]
            Unit::Tiles(_) => true,
            _ => false,
        };
        let tiles = count.div_ceil(most);
        (0..tiles).map(move |i| if whole { (i * most, count.min((i + 1) * most)) } else { part(count, tiles, i) })
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
                Unit::Pairs => pairs::tile_rows(tile),
                #[cfg(target_arch = "x86_64")]
                Unit::Tiles(tiles) => tiles.tile_rows(tile),
            }
        }
    }

    /// Rows that lie as columns of a block (row `r` of a product has word `k` at `from + k·LDA + r`) as [`Self::tile_columns`] takes them: where they are,
    /// or turned, in `room`.
    ///
    /// # Safety
    /// `from` is valid for reads of `steps` rows of `rows`, `room` for writes of `rows` rows of [`product::LDA`]; of rows there are as many as
    /// [`Self::tiles`] cuts.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub unsafe fn columns(&self, from: *const f32, (rows, steps): (usize, usize), room: *mut f32) -> *const f32 {
        match self {
            Unit::Tiles(_) => {
                // SAFETY: machines with AMX have AVX-512; the rest is the caller's word.
                unsafe { amx::turn(from, (rows, steps), room) };
                room
            }
            _ => from,
        }
    }

    /// As [`Self::tile_rows`], adding to the sums, with rows as [`Self::columns`] gives them.
    ///
    /// # Safety
    /// As there.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub unsafe fn tile_columns<S: Simd>(&mut self, tile: Tile) {
        debug_assert!(tile.add, "columns are added");
        // SAFETY: as in `tile_rows`.
        unsafe {
            match self {
                Unit::Floats => product::tile_columns::<S>(tile.rows, tile.kc, tile.a, tile.b, tile.c, tile.ldc),
                Unit::Pairs => pairs::tile_columns(tile),
                Unit::Tiles(tiles) => tiles.tile_rows(tile),
            }
        }
    }
}
