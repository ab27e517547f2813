//! Attention of bf16 in [pairs](crate::cpu::pairs): both products take two multiply-adds of bf16 for one of f32.
//!
//! A [unit](Unit) multiplies: `vdpbf16ps`, or AMX's tiles, which want up to 32 queries, and words of queries, and of the keys of a block, in whole depths
//! of 16, with zeros in what is left. By Intel's tables (no processor with AMX has run this): a product of 16 x 16 x 32 takes a tile unit 16 cycles, so that
//! with heads of 64 sixteen scores cost 4 cycles in both products. Between them sixteen scores are a vector that takes some 14 operations, of which a
//! core begins two in a cycle: 7 cycles. Tiles are thus about a third of a step, less where panels or depths are not full, and the exponentials bound it.
//! The scores of a tile, 32 x 256 in f32, stay in L1.
//!
//! As [`super::tiled`], with scores, maxima and sums in f32. The queries are multiplied as they lie; the scale enters with the exponent, in f32.
//! A weight `2^(s − max)` is rounded to bf16 for the product with the values, by a factor of `1 + δ`, `|δ| ≤ 2⁻⁹`, and the total that divides
//! the sum is that of the rounded weights. What results is `Σ wⱼ(1 + δⱼ)·vⱼ / Σ wⱼ(1 + δⱼ)`, off by no more than `2⁻⁹ · Σ wⱼ·|vⱼ − out| ≤ 2⁻⁹ ·
//! max |v|` (a mean deviation is largest where half of the values are at each end): half a rounding of a bf16 of that magnitude, and nothing
//! where all values are the same. FlashAttention rounds the weights likewise and divides by the total of the exact ones.

use std::arch::x86_64::*;

use half::bf16;

use super::{
    Operands,
    pair_panels::{PANEL, SCORES, exp2, exp2_brief, first, gather, pack_channels, pack_rows, store},
};
use crate::{
    Result,
    cpu::{
        Cpu, Shared,
        pairs::{self, multiply_add, round},
        product::{LDA, Tile, part},
        simd::{
            Level,
            avx512::{Avx512, transpose},
        },
        unit::Unit,
    },
};

/// The most keys of a block: a row of its scores has the layout of a gathered row of the blocked product.
const KEYS: usize = 384;
/// The most queries that share a block of keys while it is in L2: whole tiles, four of vectors or two of AMX.
const QUERIES: usize = 64;
/// Tokens that are packed by a task, where packing is shared out.
const PIECE: usize = 256;

/// Sizes, in words.
struct Plan {
    level: Level,
    keys: usize,
    /// Rows of a tile, queries of a block, keys of a block.
    rows: usize,
    queries: usize,
    block: usize,
    /// Words of a query, and of all keys in a column of values.
    words: usize,
    key_words: usize,
    padded_values: usize,
    /// Packed keys, and values, of a sequence.
    key_panels: usize,
    value_panels: usize,
}

impl Plan {
    fn new(level: Level, keys: usize, [width, value_width]: [usize; 2]) -> Self {
        let rows = Unit::new(level, true).rows::<Avx512>();
        let (words, key_words) = (pairs::words(level, width), pairs::words(level, keys));
        let padded_values = value_width.next_multiple_of(PANEL);
        Plan {
            level,
            keys,
            rows,
            queries: QUERIES / rows * rows,
            block: keys.div_ceil(keys.div_ceil(KEYS.min(SCORES / rows))).next_multiple_of(PANEL),
            words,
            key_words,
            padded_values,
            key_panels: keys.next_multiple_of(PANEL) * words,
            value_panels: key_words * padded_values,
        }
    }

    /// Queries, sums and scores of a task.
    fn working(&self) -> usize {
        self.queries * (LDA + self.padded_values) + self.rows * LDA
    }
}

pub(super) fn run(x: &Operands<bf16>, cpu: &Cpu) -> Result<()> {
    let (sequences, threads) = (x.q.sequences(), cpu.pool.threads());
    let (queries, keys) = (x.q.tokens(), x.k.tokens());
    let plan = Plan::new(cpu.level, keys, [x.q.shape[4], x.v.shape[4]]);
    let panels = plan.key_panels + plan.value_panels;
    if sequences < 2 * threads && threads > 1 {
        // Few sequences: packed once, in pieces, then their queries are shared out.
        let packed = cpu.memory.allocate(sequences * panels * size_of::<f32>())?;
        let packed = Shared(packed.ptr().cast::<f32>());
        let pieces = keys.div_ceil(PIECE);
        cpu.pool.for_each(sequences * pieces, |task| {
            let (i, piece) = (task / pieces, task % pieces);
            // SAFETY: the level is checked; each task writes its own part of the panels.
            unsafe { pack(x, &plan, i, (piece * PIECE, keys.min((piece + 1) * PIECE)), packed.get().add(i * panels)) };
        });
        let shares = queries.div_ceil(plan.queries).min((4 * threads).div_ceil(sequences)).max(1);
        return cpu.with_scratch(sequences * shares, plan.working(), |task, scratch| {
            let (i, share) = (task / shares, task % shares);
            let (mut unit, rows) = (Unit::new(plan.level, true), part(queries, shares, share));
            // SAFETY: as above; the scratch is as large as a task needs.
            unsafe { queries_of(x, &plan, &mut unit, i, rows, packed.get().add(i * panels), scratch.ptr().cast()) };
        });
    }
    // Many short ones: several to a task.
    let chunk = (16384 / (queries * keys).max(1)).clamp(1, sequences.div_ceil(8 * threads).max(1));
    cpu.with_scratch(sequences.div_ceil(chunk), panels + plan.working(), |task, scratch| {
        let packed = scratch.ptr().cast::<f32>();
        let mut unit = Unit::new(plan.level, true);
        for i in task * chunk..sequences.min((task + 1) * chunk) {
            // SAFETY: as above.
            unsafe {
                pack(x, &plan, i, (0, keys), packed);
                queries_of(x, &plan, &mut unit, i, (0, queries), packed, packed.add(panels));
            }
        }
    })
}

/// Packs keys and values `low..high` of sequence `i`, `low` at the beginning of a panel.
///
/// # Safety
/// `packed` holds the panels of a sequence, and nobody else writes these; the machine must have the level.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn pack(x: &Operands<bf16>, p: &Plan, i: usize, (low, high): (usize, usize), packed: *mut f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        pack_rows(&x.k.sequence(i), p.words, (low, high), packed);
        let values = packed.add(p.key_panels + low / 2 * PANEL);
        pack_channels(&x.v.sequence(i), (low, high - low), (pairs::words(p.level, high - low), p.key_words), values);
    }
}

/// Attention of the queries `low..high` of sequence `i`.
///
/// # Safety
/// The panels are packed, `scratch` holds [`Plan::working`], and nobody else writes these results; the machine must have the level.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn queries_of(
    x: &Operands<bf16>,
    p: &Plan,
    unit: &mut Unit,
    i: usize,
    (low, high): (usize, usize),
    packed: *const f32,
    scratch: *mut f32,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        let values = packed.add(p.key_panels);
        let sums = scratch.add(p.queries * LDA);
        let scores = sums.add(p.queries * p.padded_values);
        let (q, out) = (x.q.sequence(i), x.out.sequence(i));
        let next = x.after(i);
        let lse = x.lse.as_ref().map(|lse| lse.sequence(i));
        let factor = x.scale * std::f32::consts::LOG2_E;
        for row in (low..high).step_by(p.queries) {
            let count = p.queries.min(high - row);
            let mut softmax = Softmax::START;
            gather(&q, (row, count), scratch, LDA);
            for k0 in (0..p.keys).step_by(p.block) {
                let keys = p.block.min(p.keys - k0);
                for (first, last) in unit.tiles::<Avx512>(count) {
                    if k0 == 0 {
                        // While there is enough else to do.
                        for next in &next {
                            next.prefetch::<Avx512>((row + first, row + last));
                        }
                    }
                    let (rows, a) = (last - first, scratch.add(first * LDA));
                    for j in (0..keys).step_by(PANEL) {
                        let b = packed.add((k0 + j) * p.words);
                        unit.tile_rows::<Avx512>(Tile {
                            rows,
                            kc: p.words,
                            a,
                            b,
                            c: scores.add(j),
                            ldc: LDA,
                            add: false,
                            later: None,
                        });
                    }
                    let sums = sums.add(first * p.padded_values);
                    for group in (0..rows).step_by(GROUP) {
                        let (from, size) = (scores.add(group * LDA), GROUP.min(rows - group));
                        let shrinks = if lse.is_some() {
                            softmax.weigh::<true>(from, (first + group, size), keys, factor)
                        } else {
                            softmax.weigh::<false>(from, (first + group, size), keys, factor)
                        };
                        for (r, &shrink) in shrinks.iter().enumerate().take(if k0 == 0 { 0 } else { size }) {
                            if shrink != 1.0 {
                                rescale(sums.add((group + r) * p.padded_values), p.padded_values, shrink);
                            }
                        }
                    }
                    for (panel, c) in (0..p.padded_values).step_by(PANEL).enumerate() {
                        let b = values.add((panel * p.key_words + k0 / 2) * PANEL);
                        let (kc, c) = (pairs::words(p.level, keys), sums.add(c));
                        unit.tile_rows::<Avx512>(Tile {
                            rows,
                            kc,
                            a: scores,
                            b,
                            c,
                            ldc: p.padded_values,
                            add: k0 != 0,
                            later: None,
                        });
                    }
                }
            }
            for (r, total) in softmax.total.into_iter().enumerate().take(count) {
                let to = out.base.get().add((row + r) * out.stride);
                store(to, sums.add(r * p.padded_values), out.width, 1.0 / total);
                if let Some(lse) = &lse {
                    let (max, exact) = (softmax.max[r], softmax.exact[r]);
                    lse.base.get().add((row + r) * lse.stride).write(max * std::f32::consts::LN_2 + exact.ln());
                }
            }
        }
    }
}

/// The softmax of a block of queries so far, a number to each.
struct Softmax {
    /// The largest score, times the scale and log₂e.
    max: [f32; QUERIES],
    /// The sum of the rounded weights, and, where the log-sum-exp is asked for, of those before rounding.
    total: [f32; QUERIES],
    exact: [f32; QUERIES],
}

/// Rows whose maxima and totals are one vector: of each row alone they would be a chain of shuffles that the next row waits for.
const GROUP: usize = 16;

impl Softmax {
    const START: Softmax = Softmax { max: [f32::NEG_INFINITY; QUERIES], total: [0.0; QUERIES], exact: [0.0; QUERIES] };

    /// Turns the scores of `rows ≤ 16` queries from `low` on, in place, into weights as pairs of bf16 (0 for keys up to a whole vector), with the
    /// maxima so far. Returns the factors by which what was summed before shrinks. A score that is NaN, or +∞, makes its query NaN.
    ///
    /// # Safety
    /// `scores` is valid for rows of [`LDA`], each for the keys rounded up to a panel.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    unsafe fn weigh<const EXACT: bool>(
        &mut self,
        scores: *mut f32,
        (low, rows): (usize, usize),
        keys: usize,
        factor: f32,
    ) -> [f32; GROUP] {
        let (lanes, mut shrinks) = (first(rows), [0.0; GROUP]);
        let [max, total, exact] = [&mut self.max, &mut self.total, &mut self.exact].map(|x| x[low..low + rows].as_mut_ptr());
        // SAFETY: passed on from the caller; of what is one to each query only those of the rows are read and written.
        unsafe {
            let mut partial = [_mm512_set1_ps(f32::NEG_INFINITY); GROUP];
            for (r, partial) in partial.iter_mut().enumerate().take(rows) {
                *partial = largest(scores.add(r * LDA), keys, factor);
            }
            let old = _mm512_mask_loadu_ps(_mm512_set1_ps(f32::NEG_INFINITY), lanes, max);
            let mut new = old;
            for column in across(partial) {
                new = _mm512_max_ps(new, column);
            }
            // −∞ − −∞ is not what is left of nothing.
            let begun = _mm512_cmp_ps_mask::<_CMP_NEQ_OQ>(old, _mm512_set1_ps(f32::NEG_INFINITY));
            let shrink = exp2(_mm512_mask_sub_ps(old, begun, old, new));
            _mm512_mask_storeu_ps(max, lanes, new);
            let (mut rounded, mut unrounded) = ([_mm512_setzero_ps(); GROUP], [_mm512_setzero_ps(); GROUP]);
            for (r, (rounded, unrounded)) in rounded.iter_mut().zip(&mut unrounded).enumerate().take(rows) {
                [*rounded, *unrounded] = weights::<EXACT>(scores.add(r * LDA), keys, factor, *max.add(r));
            }
            for (to, partial) in [(total, rounded), (exact, unrounded)].into_iter().take(if EXACT { 2 } else { 1 }) {
                let mut sum = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, to), shrink);
                for column in across(partial) {
                    sum = _mm512_add_ps(sum, column);
                }
                _mm512_mask_storeu_ps(to, lanes, sum);
            }
            _mm512_storeu_ps(shrinks.as_mut_ptr(), shrink);
        }
        shrinks
    }
}

/// The vectors whose lanes are the rows: what is gathered over them is gathered across each row.
#[inline]
#[target_feature(enable = "avx512f")]
fn across(rows: [__m512; GROUP]) -> [__m512; GROUP] {
    // SAFETY: both are 512 bits, and all bits are valid; the instructions are enabled here.
    unsafe { std::mem::transmute(transpose(std::mem::transmute::<[__m512; GROUP], [__m512i; GROUP]>(rows))) }
}

/// The largest of a row of scores times `factor`, in each lane of every sixteenth.
///
/// # Safety
/// `row` is valid for the keys rounded up to a vector.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn largest(row: *const f32, keys: usize, factor: f32) -> __m512 {
    let (factor, full) = (_mm512_set1_ps(factor), keys / 16 * 16);
    // A maximum is the second operand where the first is NaN; the exponentials bring NaN back.
    let mut max = _mm512_set1_ps(f32::NEG_INFINITY);
    // SAFETY: passed on from the caller.
    unsafe {
        for j in (0..full).step_by(16) {
            max = _mm512_max_ps(_mm512_mul_ps(_mm512_loadu_ps(row.add(j)), factor), max);
        }
        if full < keys {
            let last = _mm512_mul_ps(_mm512_loadu_ps(row.add(full)), factor);
            max = _mm512_mask_max_ps(max, first(keys - full), last, max);
        }
    }
    max
}

/// Scores into weights, and the sums, in lanes, of the weights as they are rounded and, if `EXACT`, as they were.
///
/// # Safety
/// `row` is valid for the keys rounded up to a panel; what is written at a key was read before.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
unsafe fn weights<const EXACT: bool>(row: *mut f32, keys: usize, factor: f32, max: f32) -> [__m512; 2] {
    let (factor, minus) = (_mm512_set1_ps(factor), _mm512_set1_ps(-max));
    let ones = _mm512_set1_epi32(0x3F80_3F80);
    let mut sums = [_mm512_setzero_ps(); 2];
    // SAFETY: passed on from the caller.
    unsafe {
        let weight = |j: usize| {
            let power = _mm512_fmadd_ps(_mm512_loadu_ps(row.add(j)), factor, minus);
            if EXACT { exp2(power) } else { exp2_brief(power) }
        };
        let mut write = |j: usize, low: __m512, high: __m512| {
            if EXACT {
                sums[1] = _mm512_add_ps(sums[1], _mm512_add_ps(low, high));
            }
            let rounded = round(low, high);
            sums[0] = multiply_add(sums[0], rounded, ones);
            _mm512_storeu_si512(row.add(j / 2).cast(), rounded);
        };
        let full = keys / 32 * 32;
        for j in (0..full).step_by(32) {
            write(j, weight(j), weight(j + 16));
        }
        if full < keys {
            let half = |j: usize| _mm512_maskz_mov_ps(first(keys.saturating_sub(j)), weight(j));
            write(full, half(full), half(full + 16));
        }
    }
    sums
}

/// # Safety
/// `row` is valid for `len`, a multiple of 16.
#[target_feature(enable = "avx512f")]
unsafe fn rescale(row: *mut f32, len: usize, by: f32) {
    // SAFETY: passed on from the caller.
    unsafe {
        let by = _mm512_set1_ps(by);
        for c in (0..len).step_by(16) {
            _mm512_storeu_ps(row.add(c), _mm512_mul_ps(_mm512_loadu_ps(row.add(c)), by));
        }
    }
}
