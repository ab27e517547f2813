//! Attention in register tiles with the online softmax (Dao et al., FlashAttention, algorithm 1).
//!
//! For each sequence the keys are packed once into panels `[L/NR][D][NR]` and the values into `[D/NR][L][NR]`; then for each block of
//! queries and each block of keys: scores by the tile of the blocked product, exponentials in place, values by the same tile. With up
//! to [`KEYS`] keys there is one block and nothing is rescaled. A query's arithmetic depends on its own row and the keys alone.

use std::f32::consts::{LN_2, LOG2_E};

use super::{
    Operands, Sequence,
    pack::{pack_channels, pack_rows},
};
use crate::{
    Element, Result,
    cpu::{
        Cpu, Shared,
        convert::{load, store},
        product::{KC, LDA, part, tile_rows},
        simd::{Kernel, Simd, math},
    },
};

/// Keys of a block: a row of its scores has the layout of a gathered row of the blocked product.
const KEYS: usize = KC;
/// Tiles of queries that share a block of keys while it is in L2.
const TILES: usize = 4;
/// The largest number of rows of a tile.
const MAX_ROWS: usize = 14;

/// Tokens that are packed by a task, where packing is shared out.
const PIECE: usize = 256;

/// Sizes, in f32.
struct Plan {
    width: usize,
    value_width: usize,
    keys: usize,
    /// Widths rounded up to a panel.
    padded_keys: usize,
    padded_width: usize,
}

impl Plan {
    /// Packed keys and values of a sequence.
    fn panels(&self) -> usize {
        self.padded_keys * self.width + self.keys * self.padded_width
    }

    /// Queries, sums and scores of a task.
    fn working(&self) -> usize {
        TILES * MAX_ROWS * (LDA * self.width.div_ceil(KC).max(1) + self.padded_width) + MAX_ROWS * LDA
    }
}

pub(super) fn run<T: Element>(x: &Operands<T>, cpu: &Cpu) -> Result<()> {
    let panel = crate::cpu::product::panel_width(cpu);
    let (sequences, threads) = (x.q.sequences(), cpu.pool.threads());
    let (queries, keys) = (x.q.tokens(), x.k.tokens());
    let (width, value_width) = (x.q.shape[4], x.v.shape[4]);
    let (padded_keys, padded_width) = (keys.next_multiple_of(panel), value_width.next_multiple_of(panel));
    let plan = &Plan { width, value_width, keys, padded_keys, padded_width };
    let panels = plan.panels();
    if sequences < 2 * threads && threads > 1 {
        // Few sequences: packed once, in pieces, then their queries are shared out.
        let packed = cpu.memory.allocate(sequences * panels * size_of::<f32>())?;
        let packed = Shared(packed.ptr().cast::<f32>());
        let pieces = keys.div_ceil(PIECE);
        cpu.pool.for_each(sequences * pieces, |task| {
            let (i, piece) = (task / pieces, task % pieces);
            let keys = (piece * PIECE, keys.min((piece + 1) * PIECE));
            // SAFETY: the buffer holds the panels of all sequences.
            let packed = unsafe { packed.get().add(i * panels) };
            cpu.level.run(Pack { x, plan, packed, sequence: i, keys });
        });
        let shares = queries.div_ceil(TILES * MAX_ROWS).min((4 * threads).div_ceil(sequences)).max(1);
        return cpu.with_scratch(sequences * shares, plan.working(), |task, scratch| {
            let (sequence, share) = (task / shares, task % shares);
            // SAFETY: as above.
            let packed = unsafe { packed.get().add(sequence * panels) };
            let scratch = scratch.ptr().cast();
            cpu.level.run(Queries { x, plan, packed, scratch, sequence, rows: part(queries, shares, share) });
        });
    }
    // Many short ones: several to a task.
    let chunk = (4096 / (queries * keys).max(1)).clamp(1, sequences.div_ceil(8 * threads).max(1));
    cpu.with_scratch(sequences.div_ceil(chunk), panels + plan.working(), |task, scratch| {
        let packed = scratch.ptr().cast::<f32>();
        for sequence in task * chunk..sequences.min((task + 1) * chunk) {
            cpu.level.run(Pack { x, plan, packed, sequence, keys: (0, keys) });
            // SAFETY: the scratch holds both.
            let scratch = unsafe { packed.add(panels) };
            cpu.level.run(Queries { x, plan, packed, scratch, sequence, rows: (0, queries) });
        }
    })
}

/// Packs the keys and values of a sequence from one to another, the first at the beginning of a panel.
struct Pack<'a, T> {
    x: &'a Operands<T>,
    plan: &'a Plan,
    packed: *mut f32,
    sequence: usize,
    keys: (usize, usize),
}

impl<T: Element> Kernel for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (p, x, i) = (self.plan, self.x, self.sequence);
        // SAFETY: the panels of a sequence have this size, and nobody else writes these.
        unsafe {
            pack_rows::<S, T>(&x.k.sequence(i), self.keys, self.packed);
            pack_channels::<S, T>(&x.v.sequence(i), self.keys, p.padded_width, self.packed.add(p.padded_keys * p.width));
        }
    }
}

/// Pointers into panels and scratch.
struct Buffers {
    /// `[L/NR][D][NR]`
    keys: *const f32,
    /// `[D/NR][L][NR]`
    values: *const f32,
    /// `[tiles][rows][LDA]` per block of `KC` channels
    queries: *mut f32,
    /// `[tiles][rows][padded width]`
    sums: *mut f32,
    /// `[rows][LDA]`
    scores: *mut f32,
}

/// Queries of one sequence, from one to another.
struct Queries<'a, T> {
    x: &'a Operands<T>,
    plan: &'a Plan,
    packed: *const f32,
    scratch: *mut f32,
    sequence: usize,
    rows: (usize, usize),
}

impl<T: Element> Kernel for Queries<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (p, x, i) = (self.plan, self.x, self.sequence);
        let channels = p.width.div_ceil(KC).max(1);
        // SAFETY: the scratch holds `Plan::working`, which adds up these parts.
        unsafe {
            let queries = self.scratch;
            let sums = queries.add(TILES * MAX_ROWS * LDA * channels);
            let scores = sums.add(TILES * MAX_ROWS * p.padded_width);
            let buffers = Buffers { keys: self.packed, values: self.packed.add(p.padded_keys * p.width), queries, sums, scores };
            let (q, lse) = (x.q.sequence(i), x.lse.as_ref().map(|lse| lse.sequence(i)));
            let next = x.after(i);
            let step = TILES * S::MR;
            for row in (self.rows.0..self.rows.1).step_by(step) {
                let rows = (row, (row + step).min(self.rows.1));
                for next in &next {
                    next.prefetch::<S>(rows);
                }
                block::<S, T>(x.scale, p, &buffers, &q, &x.out.sequence(i), lse.as_ref(), rows);
            }
        }
    }
}

/// Queries `low..high` of one sequence, at most `TILES · MR` of them.
///
/// # Safety
/// The buffers hold the packed keys and values.
#[inline(always)]
unsafe fn block<S: Simd, T: Element>(
    scale: f32,
    p: &Plan,
    buffers: &Buffers,
    q: &Sequence<T>,
    out: &Sequence<T>,
    lse: Option<&Sequence<f32>>,
    (low, high): (usize, usize),
) {
    let panel = 2 * S::LANES;
    let count = high - low;
    let tiles = count.div_ceil(S::MR);
    let mut max = [f32::NEG_INFINITY; TILES * MAX_ROWS];
    let mut total = [0f32; TILES * MAX_ROWS];
    // SAFETY: `count` is at most `TILES · MR`, for which the buffers have room.
    unsafe {
        for r in 0..count {
            for (c, d0) in (0..p.width).step_by(KC).enumerate() {
                let dst = buffers.queries.add((c * TILES * MAX_ROWS + r) * LDA);
                let end = p.width.min(d0 + KC);
                for d in (d0..end).step_by(S::LANES) {
                    let src = q.base.get().add((low + r) * q.stride + d * q.step);
                    let y = load::<S, T>(src, q.step, S::LANES.min(end - d));
                    // LDA leaves room for the last vector.
                    S::store(dst.add(d - d0), S::mul(y, S::splat(scale * LOG2_E)));
                }
            }
        }
        for k0 in (0..p.keys).step_by(KEYS) {
            let keys = KEYS.min(p.keys - k0);
            for tile in 0..tiles {
                let (first, last) = part(count, tiles, tile);
                let rows = last - first;
                for j in (0..keys).step_by(panel) {
                    if p.width == 0 {
                        (0..rows).for_each(|r| buffers.scores.add(r * LDA + j).write_bytes(0, panel));
                    }
                    for (c, d0) in (0..p.width).step_by(KC).enumerate() {
                        let a = buffers.queries.add((c * TILES * MAX_ROWS + first) * LDA);
                        let b = buffers.keys.add((k0 + j) * p.width + d0 * panel);
                        tile_rows::<S>(rows, KC.min(p.width - d0), a, b, buffers.scores.add(j), LDA, c != 0);
                    }
                }
                let sums = buffers.sums.add(first * p.padded_width);
                for r in 0..rows {
                    let (m, l) = (&mut max[first + r], &mut total[first + r]);
                    let shrink = exponentials::<S>(buffers.scores.add(r * LDA), keys, m, l);
                    if k0 != 0 {
                        rescale::<S>(sums.add(r * p.padded_width), p.padded_width, shrink);
                    }
                }
                for (i, c) in (0..p.padded_width).step_by(panel).enumerate() {
                    let b = buffers.values.add((i * p.keys + k0) * panel);
                    tile_rows::<S>(rows, keys, buffers.scores, b, sums.add(c), p.padded_width, k0 != 0);
                }
            }
        }
        for r in 0..count {
            let inverse = S::splat(1.0 / total[r]);
            let dst = out.base.get().add((low + r) * out.stride);
            for c in (0..p.value_width).step_by(S::LANES) {
                let y = S::mul(S::load(buffers.sums.add(r * p.padded_width + c)), inverse);
                store::<S, T>(dst.add(c), y, S::LANES.min(p.value_width - c));
            }
            if let Some(lse) = lse {
                lse.base.get().add((low + r) * lse.stride).write(natural(max[r], total[r]));
            }
        }
    }
}

/// The logarithm of `total · 2^max`.
pub(in crate::cpu) fn natural(max: f32, total: f32) -> f32 {
    max * LN_2 + total.ln()
}

/// Turns a row of scores, in units of `ln 2`, into `2^(score − max)`, with the maximum so far; updates the maximum and the total, and returns the factor by which
/// what was summed before shrinks. A score that is NaN, or +∞, makes its row NaN.
///
/// # Safety
/// `row` is valid for `keys` rounded up to a vector.
#[inline(always)]
pub(in crate::cpu) unsafe fn exponentials<S: Simd>(row: *mut f32, keys: usize, max: &mut f32, total: &mut f32) -> f32 {
    // SAFETY: passed on from the caller.
    unsafe {
        let full = keys / S::LANES * S::LANES;
        let mut m = S::splat(*max);
        for j in (0..full).step_by(S::LANES) {
            m = S::max(S::load(row.add(j)), m);
        }
        let mut largest = S::max_lane(m);
        for j in full..keys {
            largest = largest.max(*row.add(j));
        }
        let shrink = if *max == f32::NEG_INFINITY { 0.0 } else { (*max - largest).exp2() };
        let m = S::splat(largest);
        let mut sum = S::splat(0.0);
        for j in (0..keys).step_by(S::LANES) {
            let lanes = S::LANES.min(keys - j);
            let x = if lanes == S::LANES { S::load(row.add(j)) } else { S::load_first(row.add(j), lanes) };
            let d = S::sub(x, m);
            let e = math::exp2::<S>(d);
            S::store(row.add(j), e);
            // Lanes beyond the keys would count 2^(0 − max).
            sum = S::add(sum, if lanes == S::LANES { e } else { S::load_first(row.add(j), lanes) });
        }
        *total = *total * shrink + S::sum(sum);
        *max = largest;
        shrink
    }
}

/// # Safety
/// `row` is valid for `len`, a multiple of a panel.
#[inline(always)]
unsafe fn rescale<S: Simd>(row: *mut f32, len: usize, by: f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        let by = S::splat(by);
        for c in (0..len).step_by(S::LANES) {
            S::store(row.add(c), S::mul(S::load(row.add(c)), by));
        }
    }
}
