//! The blocked matrix product under `gemm` and `conv3d`: `out[i, j] = epilogue(Σₖ rows[i, k]·weight[j, k])`, with an [epilogue](super::epilogue).
//!
//! The weight lies in [panels](super::panels) of `NR` columns, `[N/NR][K][NR]`; rows are gathered block by block into `[K/KC][rows][LDA]`, by a copy, a
//! conversion, normalised on the way, or, for convolutions, straight from the video. A tile of up to `MR × NR` sums stays in registers for `KC` steps: per step two
//! vectors of the weight and a number of each row feed `2·MR` multiply-adds.
//!
//! Sizes, measured on a core with 48 KiB L1 and 1 MiB L2: a row tile `MR × KC` (21 KiB) stays in L1 across a group of panels, the group
//! `KC × GROUP·NR` (192 KiB) in L2 across the row tiles of a block. While a group is multiplied the next is asked for: where L3 is far (Intel's servers, a third
//! of a microsecond under load) every new group was waited for, a tenth of the time.
//!
//! The order of additions for an element depends on `K` alone: blocks of `KC` from 0, one after the other.

use super::{
    Cpu, Shared,
    epilogue::{Epilogue, Finish},
    simd::{Kernel, Level, Simd},
    unit::Unit,
};
use crate::{Element, Result};

/// Steps of K between trips of the sums to memory.
pub(super) const KC: usize = 384;
/// Distance of rows in a gathered block: odd in cache lines, so that the rows of a tile fall into different sets.
pub(super) const LDA: usize = KC + 16;
/// Rows of a block: its sums (`MC × GROUP·NR`) and gathered rows stay in L2.
const MC: usize = 224;
/// Panels that are multiplied with a row tile while it is in L1.
const GROUP: usize = 4;
/// Steps of a tile for which it asks for one line of what is wanted later: eight tiles ask for a panel's share of the next group.
const EVERY: usize = 4;
/// f32 of a cache line.
const LINE: usize = 16;

/// Where the rows of a product come from.
pub(super) trait Rows: Sync {
    /// Whether a step of K is not an f32 but a word of two bf16, here and in the panels: see [`super::pairs`].
    const PAIRS: bool = false;

    /// Runs what is made of these rows with a level's instructions.
    fn enter<K: Kernel>(level: Level, kernel: K) -> K::Output {
        level.run(kernel)
    }

    /// Writes rows `first..first + count` of `steps`, as f32 or words, block by block: see [`blocks`].
    ///
    /// # Safety
    /// `dst` must be valid for these writes.
    unsafe fn gather<S: Simd>(&self, first: usize, count: usize, steps: usize, dst: *mut f32);
}

/// The blocks of gathered rows, `[steps/KC][count][LDA]` at `dst`: their first step, how many there are, and where the first row goes; the next is
/// [`LDA`] on.
#[inline(always)]
pub(super) fn blocks(steps: usize, count: usize, dst: *mut f32) -> impl Iterator<Item = (usize, usize, *mut f32)> {
    (0..steps.div_ceil(KC)).map(
        #[inline(always)]
        move |block| (block * KC, KC.min(steps - block * KC), dst.wrapping_add(block * count * LDA)),
    )
}

/// Columns of a panel at a level of instructions.
pub(super) fn panel_width(cpu: &Cpu) -> usize {
    struct Width;
    impl Kernel for Width {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self) -> usize {
            2 * S::LANES
        }
    }
    cpu.level.run(Width)
}

/// One product, or a batch of products with a weight each.
pub(super) struct Product<'a, R, T> {
    pub rows: &'a R,
    /// Products, each of `m` rows; with one weight the batch is part of `m`.
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// `batch` times the [panels](super::panels) of a weight.
    pub panels: Shared<f32>,
    pub epilogue: Epilogue<'a, T>,
}

/// How the work is cut: the tasks of a batch element are `m_blocks × n_blocks`.
struct Cut {
    m_blocks: usize,
    n_blocks: usize,
}

impl Cut {
    fn new(m: usize, panels: usize, threads: usize) -> Self {
        let mut m_blocks = m.div_ceil(MC);
        // Equal shares, unless blocks are many anyway or would become short.
        if m_blocks < 16 * threads && m / m_blocks.next_multiple_of(threads) >= 32 {
            m_blocks = m_blocks.next_multiple_of(threads);
        }
        // With few rows the columns are shared out as well, several shares a thread against uneven progress; not more, because each share
        // gathers the rows anew.
        let shares = panels.div_ceil(GROUP).clamp(2 * threads, 4 * threads).min(panels);
        let n_blocks = if m_blocks < threads { shares } else { 1 };
        Cut { m_blocks, n_blocks }
    }
}

/// Part `i` of `0..len` in `parts` nearly equal parts.
pub(super) fn part(len: usize, parts: usize, i: usize) -> (usize, usize) {
    (len * i / parts, len * (i + 1) / parts)
}

impl<R: Rows, T: Element> Product<'_, R, T> {
    /// Computes everything. `panels`, `out` and the operands must be as the fields say.
    pub fn run(&self, cpu: &Cpu) -> Result<()> {
        let panels = self.n.div_ceil(panel_width(cpu));
        let cut = Cut::new(self.m, panels, cpu.pool.threads());
        let tasks = self.batch * cut.m_blocks * cut.n_blocks;
        let rows = self.m.div_ceil(cut.m_blocks.max(1));
        let gathered = self.k.div_ceil(KC) * rows * LDA;
        let sums = rows * GROUP * panel_width(cpu);
        cpu.with_scratch(tasks, gathered + sums, |task, scratch| {
            let (n_block, rest) = (task % cut.n_blocks, task / cut.n_blocks);
            let block = Block {
                level: cpu.level,
                product: self,
                batch: rest / cut.m_blocks,
                rows: part(self.m, cut.m_blocks, rest % cut.m_blocks),
                panels: part(panels, cut.n_blocks, n_block),
                total_panels: panels,
                gathered: scratch.ptr().cast(),
                // SAFETY: the scratch holds both.
                sums: unsafe { scratch.ptr().cast::<f32>().add(gathered) },
            };
            R::enter(cpu.level, block);
        })
    }
}

/// A block of rows times a range of panels: one task.
struct Block<'a, R, T> {
    level: Level,
    product: &'a Product<'a, R, T>,
    batch: usize,
    rows: (usize, usize),
    panels: (usize, usize),
    total_panels: usize,
    /// `[K/KC][rows][LDA]`
    gathered: *mut f32,
    /// `[rows][GROUP·NR]`
    sums: *mut f32,
}

impl<R: Rows, T: Element> Kernel for Block<'_, R, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (p, count) = (self.product, self.rows.1 - self.rows.0);
        let width = 2 * S::LANES;
        let mut unit = Unit::new(self.level, R::PAIRS);
        let first = self.batch * p.m + self.rows.0;
        // SAFETY: scratch sizes are set in `Product::run`; panels, operands and outputs are as the fields of `Product` say.
        unsafe {
            p.rows.gather::<S>(first, count, p.k, self.gathered);
            for group in (self.panels.0..self.panels.1).step_by(GROUP) {
                let end = (group + GROUP).min(self.panels.1);
                let columns = (group * width, (end * width).min(p.n));
                // Of rows while their sums are in L1; and so stores to memory go out between products.
                let finish = |low: usize, high: usize| Finish {
                    epilogue: &p.epilogue,
                    first: first + low,
                    count: high - low,
                    columns,
                    sums: self.sums.add(low * GROUP * width),
                    distance: GROUP * width,
                };
                if p.k == 0 {
                    self.sums.write_bytes(0, count * GROUP * width);
                    S::enter(finish(0, count));
                }
                for (block, k0) in (0..p.k).step_by(KC).enumerate() {
                    let kc = KC.min(p.k - k0);
                    let (next, next_k0) = if k0 + kc < p.k { (group, k0 + kc) } else { (end, 0) };
                    for (i, (low, high)) in unit.tiles::<S>(count).enumerate() {
                        let a = self.gathered.add((block * count + low) * LDA);
                        for panel in group..end {
                            let b = self.chunk(width, panel, k0);
                            let c = self.sums.add(low * GROUP * width + (panel - group) * width);
                            let (next, asked) = (next + panel - group, i * LINE * (kc / EVERY));
                            let more = next < self.panels.1 && asked < KC.min(p.k - next_k0) * width;
                            let later = more.then(
                                #[inline(always)]
                                || self.chunk(width, next, next_k0).add(asked),
                            );
                            unit.tile_rows::<S>(Tile {
                                rows: high - low,
                                kc,
                                a,
                                b,
                                c,
                                ldc: GROUP * width,
                                add: block != 0,
                                later,
                            });
                        }
                        if k0 + kc == p.k {
                            S::enter(finish(low, high));
                        }
                    }
                }
            }
        }
    }
}

impl<R, T> Block<'_, R, T> {
    /// A panel of the weight, from step `k0` on.
    ///
    /// # Safety
    /// The panel and the step must be of the product.
    #[inline(always)]
    unsafe fn chunk(&self, width: usize, panel: usize, k0: usize) -> *const f32 {
        // SAFETY: the caller's word.
        unsafe { self.product.panels.get().add(((self.batch * self.total_panels + panel) * self.product.k + k0) * width) }
    }
}

/// [`Tile::multiply`] for a number of rows known only now. Not inlined: the tiles are most of a product's code, and one copy of them per level
/// serves every source of rows and every element type.
///
/// # Safety
/// As [`Tile::multiply`]; `rows ≤ S::MR ≤ 14`.
#[inline(always)]
pub(super) unsafe fn tile_rows<S: Simd>(
    rows: usize,
    kc: usize,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    ldc: usize,
    add: bool,
) {
    // SAFETY: whoever has `S` runs on a machine with its instructions.
    unsafe { S::enter(Tile { rows, kc, a, b, c, ldc, add, later: None }) }
}

/// The arguments of [`tile_rows`], which vouches for them.
pub(super) struct Tile {
    pub rows: usize,
    pub kc: usize,
    pub a: *const f32,
    pub b: *const f32,
    pub c: *mut f32,
    pub ldc: usize,
    pub add: bool,
    /// What will be read after this and need not be in L2 yet, for a line each [`EVERY`] steps; it is only asked for, and only by tiles of f32.
    pub later: Option<*const f32>,
}

impl Kernel for Tile {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: passed on from the caller of `tile_rows`.
        unsafe { self.choose::<S, false>() }
    }
}

impl Tile {
    /// The tile for the number of rows.
    ///
    /// # Safety
    /// As [`Tile::multiply`].
    #[inline(always)]
    unsafe fn choose<S: Simd, const COLUMNS: bool>(self) {
        let rows = self.rows;
        macro_rules! cases {
            ($($n:literal)*) => {
                // SAFETY: passed on from the caller.
                unsafe {
                    match rows {
                        $($n if $n <= S::MR => self.multiply::<S, $n, COLUMNS>(),)*
                        _ => debug_assert!(rows == 0, "a tile has at most {} rows", S::MR),
                    }
                }
            };
        }
        cases!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }

    /// `c[r, 0..NR] (+)= Σₖ a[r, k] · b[k, 0..NR]` for `ROWS` rows, or with `COLUMNS` of `a[k, r]`.
    ///
    /// # Safety
    /// `a` is valid for `ROWS` rows of `kc` (`kc` rows of `ROWS`) at stride [`LDA`], `b` for `kc · NR`, `c` for `ROWS` rows of `NR` at stride `ldc`.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const ROWS: usize, const COLUMNS: bool>(self) {
        let Tile { kc, a, mut b, c, ldc, add, later, .. } = self;
        let (row, next) = if COLUMNS { (1, LDA) } else { (LDA, 1) };
        // SAFETY: passed on from the caller.
        unsafe {
            let mut sums = [[S::splat(0.0); 2]; ROWS];
            let (mut twice, mut later) = ([a, a], later.unwrap_or(b));
            for _ in 0..kc / EVERY {
                S::prefetch_later(later.cast());
                // Not known to be the same, so that a number read through each is read by the multiply-add that wants it: a third fewer instructions, for a
                // core that another thread shares (a tenth of the time there).
                twice = S::apart(twice);
                // Written out, because a loop of this size would not be, and reads at an index are instructions of their own again.
                step::<S, ROWS>(&mut sums, twice, row, b);
                step::<S, ROWS>(&mut sums, [twice[0].add(next), twice[1].add(next)], row, b.add(2 * S::LANES));
                step::<S, ROWS>(&mut sums, [twice[0].add(2 * next), twice[1].add(2 * next)], row, b.add(4 * S::LANES));
                step::<S, ROWS>(&mut sums, [twice[0].add(3 * next), twice[1].add(3 * next)], row, b.add(6 * S::LANES));
                twice = [twice[0].add(EVERY * next), twice[1].add(EVERY * next)];
                (b, later) = (b.add(EVERY * 2 * S::LANES), later.wrapping_add(LINE));
            }
            for k in 0..kc % EVERY {
                step::<S, ROWS>(&mut sums, [twice[0].add(k * next), twice[1].add(k * next)], row, b.add(k * 2 * S::LANES));
            }
            for (r, row) in sums.into_iter().enumerate() {
                for (v, sum) in row.into_iter().enumerate() {
                    let at = c.add(r * ldc + v * S::LANES);
                    S::store(at, if add { S::add(S::load(at), sum) } else { sum });
                }
            }
        }
    }
}

/// Adds a step: the numbers at `a`, `row` apart, read through one pointer for each half of the panel, times the panel's vectors at `b`.
///
/// # Safety
/// As [`Tile::multiply`].
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize>(sums: &mut [[S::V; 2]; ROWS], a: [*const f32; 2], row: usize, b: *const f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        let b = [S::load(b), S::load(b.add(S::LANES))];
        for (r, sum) in sums.iter_mut().enumerate() {
            let [x, y] = [S::splat(*a[0].add(r * row)), S::splat(*a[1].add(r * row))];
            *sum = [S::fma(x, b[0], sum[0]), S::fma(y, b[1], sum[1])];
        }
    }
}

/// As [`tile_rows`] with rows that are columns of a gathered block: row `r` of the product has element `k` at `a + k·LDA + r`. Gradients of
/// attention's keys and values sum over queries, which are the rows of the scores.
///
/// # Safety
/// As [`tile_rows`], `a` being valid for `kc` rows of `rows` at stride [`LDA`].
#[inline(always)]
pub(super) unsafe fn tile_columns<S: Simd>(rows: usize, kc: usize, a: *const f32, b: *const f32, c: *mut f32, ldc: usize) {
    // SAFETY: whoever has `S` runs on a machine with its instructions.
    unsafe { S::enter(ColumnTile(Tile { rows, kc, a, b, c, ldc, add: true, later: None })) }
}

/// The arguments of [`tile_columns`].
struct ColumnTile(Tile);

impl Kernel for ColumnTile {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        // SAFETY: passed on from the caller of `tile_columns`.
        unsafe { self.0.choose::<S, true>() }
    }
}
