//! Attention in register tiles with the online softmax (Dao et al., FlashAttention, algorithm 1).
//!
//! For each sequence the keys are packed once into panels `[L/NR][D][NR]` and the values into `[D/NR][L][NR]`; then for each block of
//! queries and each block of keys: scores by the tile of the blocked product, exponentials in place, values by the same tile. With up
//! to [`KEYS`] keys there is one block and nothing is rescaled. A query's arithmetic depends on its own row and the keys alone.

use super::{
    Operands, Sequence,
    pack::{pack_channels, pack_rows},
};
use crate::{
    Element, HostBuffer, Result,
    cpu::{
        Cpu,
        convert::store,
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

/// Scratch of a thread, as offsets in f32.
struct Plan {
    width: usize,
    value_width: usize,
    keys: usize,
    /// Widths rounded up to a panel.
    padded_keys: usize,
    padded_width: usize,
    /// Parts of the key panels of one sequence that a task's queries are cut into.
    shares: usize,
}

impl Plan {
    fn floats(&self) -> usize {
        self.padded_keys * self.width
            + self.keys * self.padded_width
            + TILES * MAX_ROWS * (LDA * self.width.div_ceil(KC).max(1) + self.padded_width)
            + MAX_ROWS * LDA
    }
}

pub(super) fn run<T: Element>(x: &Operands<T>, cpu: &Cpu) -> Result<()> {
    let panel = crate::cpu::product::panel_width(cpu);
    let (sequences, threads) = (x.q.sequences(), cpu.pool.threads());
    let (queries, keys) = (x.q.shape[x.q.axis], x.k.shape[x.k.axis]);
    let (width, value_width) = (x.q.shape[4], x.v.shape[4]);
    // Few sequences: their queries are shared out, each share packing the keys again. Many short ones: several to a task.
    let shares = if sequences < 2 * threads && threads > 1 { queries.div_ceil(MAX_ROWS).min(2 * threads).max(1) } else { 1 };
    let chunk = if shares > 1 { 1 } else { (4096 / (queries * keys).max(1)).clamp(1, sequences.div_ceil(8 * threads).max(1)) };
    let plan = Plan {
        width,
        value_width,
        keys,
        padded_keys: keys.next_multiple_of(panel),
        padded_width: value_width.next_multiple_of(panel),
        shares,
    };
    let tasks = sequences.div_ceil(chunk) * shares;
    cpu.with_scratch(tasks, plan.floats(), |task, scratch| {
        let first = task / shares * chunk;
        let range = (first, (first + chunk).min(sequences));
        cpu.level.run(Task { x, plan: &plan, scratch, sequences: range, share: task % shares });
    })
}

struct Task<'a, T> {
    x: &'a Operands<T>,
    plan: &'a Plan,
    scratch: &'a HostBuffer,
    sequences: (usize, usize),
    share: usize,
}

/// Pointers into the scratch.
struct Buffers {
    /// `[L/NR][D][NR]`
    keys: *mut f32,
    /// `[D/NR][L][NR]`
    values: *mut f32,
    /// `[tiles][rows][LDA]` per block of `KC` channels
    queries: *mut f32,
    /// `[tiles][rows][padded width]`
    sums: *mut f32,
    /// `[rows][LDA]`
    scores: *mut f32,
}

impl<T: Element> Kernel for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let p = self.plan;
        let channels = p.width.div_ceil(KC).max(1);
        // SAFETY: the scratch holds `Plan::floats`, which adds up these parts.
        unsafe {
            let keys = self.scratch.ptr().cast::<f32>();
            let values = keys.add(p.padded_keys * p.width);
            let queries = values.add(p.keys * p.padded_width);
            let sums = queries.add(TILES * MAX_ROWS * LDA * channels);
            let scores = sums.add(TILES * MAX_ROWS * p.padded_width);
            let buffers = Buffers { keys, values, queries, sums, scores };
            for i in self.sequences.0..self.sequences.1 {
                pack_rows::<S, T>(&self.x.k.sequence(i), p.padded_keys, buffers.keys);
                pack_channels::<S, T>(&self.x.v.sequence(i), p.padded_width, buffers.values);
                let q = self.x.q.sequence(i);
                let (low, high) = part(q.len, p.shares, self.share);
                let lse = self.x.lse.as_ref().map(|lse| lse.sequence(i));
                let step = TILES * S::MR;
                let mut row = low;
                while row < high {
                    let rows = (row, (row + step).min(high));
                    block::<S, T>(self.x.scale, p, &buffers, &q, &self.x.out.sequence(i), lse.as_ref(), rows);
                    row = rows.1;
                }
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
                for d in d0..p.width.min(d0 + KC) {
                    dst.add(d - d0).write(scale * (*q.base.get().add((low + r) * q.stride + d * q.step)).to_f32());
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
                lse.base.get().add((low + r) * lse.stride).write(max[r] + total[r].ln());
            }
        }
    }
}

/// Turns a row of scores into `e^(score − max)`, with the maximum so far; updates the maximum and the total, and returns the factor by which
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
        let shrink = if *max == f32::NEG_INFINITY { 0.0 } else { (*max - largest).exp() };
        let m = S::splat(largest);
        let mut sum = S::splat(0.0);
        for j in (0..keys).step_by(S::LANES) {
            let lanes = S::LANES.min(keys - j);
            let x = if lanes == S::LANES { S::load(row.add(j)) } else { S::load_first(row.add(j), lanes) };
            let d = S::sub(x, m);
            let e = S::select_nan(d, d, math::exp_nonpositive::<S>(d));
            S::store(row.add(j), e);
            // Lanes beyond the keys would count e^(0 − max).
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
