//! The gradient of attention of bf16 in [pairs](crate::cpu::pairs): all five products take two multiply-adds of bf16 for one of f32.
//!
//! The blocks of [`super`], with scores, their gradients, and all sums in f32. Probabilities and gradients of scores are rounded to bf16, by a
//! factor of `1 + δ`, `|δ| ≤ 2⁻⁹`, for the three products that sum over them, as in FlashAttention-2. Those that sum over queries want two
//! queries in a word, the one that sums over keys two keys: the gradients of the scores are stored in both forms.
//!
//! With AMX's tiles as in [the forward pass](crate::cpu::attention): five products of sixteen scores are 10 cycles with heads of 64, what lies between
//! them some 16 operations and 5 more that turn the columns, 10 cycles or so. By this reckoning tiles take half of a step.

use std::arch::x86_64::*;

use half::bf16;

use super::Operands;
use crate::{
    Result,
    cpu::{
        Cpu,
        attention::{
            Sequence,
            pair_panels::{PANEL, SCORES, exp2_brief, first, gather, in_turn, load, pack_channels, pack_rows, store},
        },
        pairs::{self, multiply_add, round},
        product::{LDA, Tile},
        simd::{Level, avx512::Avx512},
        unit::Unit,
    },
};

/// The most keys of a block: two rows of f32 for each query of a tile stay in L1.
const KEYS: usize = 192;
/// Tiles of queries that are a block: the depth of the products that sum over queries, 112 in vectors, 256 in AMX.
const TILES: usize = 8;
/// The most queries of a block.
const QUERIES: usize = 256;

pub(super) fn run(x: &Operands<bf16>, cpu: &Cpu) -> Result<()> {
    let [q, k, v, ..] = &x.operands;
    let (keys, widths) = (k.tokens(), [q.shape[4], v.shape[4]]);
    let rows = Unit::new(cpu.level, true).rows::<Avx512>();
    let plan = Plan {
        level: cpu.level,
        queries: q.tokens(),
        keys,
        rows,
        block: [TILES * rows, keys.div_ceil(keys.div_ceil(KEYS.min(SCORES / (2 * rows)))).next_multiple_of(PANEL)],
        words: widths.map(|w| pairs::words(cpu.level, w)),
        key_words: pairs::words(cpu.level, keys),
        padded: widths.map(|w| w.next_multiple_of(PANEL)),
    };
    cpu.with_scratch(q.sequences(), plan.parts().iter().sum(), |i, scratch| {
        let gradient = Gradient {
            scale: x.scale,
            plan,
            operands: x.operands.each_ref().map(|x| x.sequence(i)),
            next: x.after(i),
            lse: x.lse.sequence(i),
            results: x.results.each_ref().map(|x| x.sequence(i)),
        };
        // SAFETY: the level is checked, and the scratch holds the plan's parts.
        unsafe { gradient.run(&Buffers::new(&plan, scratch.ptr().cast()), &mut Unit::new(plan.level, true)) };
    })
}

/// Sizes of one sequence.
#[derive(Clone, Copy)]
struct Plan {
    level: Level,
    queries: usize,
    keys: usize,
    /// Rows of a tile.
    rows: usize,
    /// Queries and keys of a block.
    block: [usize; 2],
    /// Widths of queries and values: in words, and rounded up to a panel.
    words: [usize; 2],
    padded: [usize; 2],
    /// All keys in words.
    key_words: usize,
}

impl Plan {
    /// The parts of the scratch, in words.
    fn parts(&self) -> [usize; 9] {
        let (panels, padded) = (self.keys.next_multiple_of(PANEL), self.padded[0] + self.padded[1]);
        let [queries, _] = self.block;
        [
            panels * (self.words[0] + self.words[1]),
            self.key_words * self.padded[0],
            2 * queries * LDA,
            queries / 2 * padded,
            2 * self.rows * LDA,
            queries * LDA,
            queries * LDA,
            queries * self.padded[0],
            self.keys * padded,
        ]
    }
}

/// Pointers into the scratch.
struct Buffers {
    /// Keys and values as `[L/32][words][32]`, pairs along the channels.
    rows: [*mut f32; 2],
    /// Keys as `[D/32][words][32]`, pairs along the keys.
    keys: *mut f32,
    /// Queries and gradients as `[queries][LDA]`.
    gathered: [*mut f32; 2],
    /// Queries and gradients as `[D/32][words][32]`, pairs along the queries.
    panels: [*mut f32; 2],
    /// Scores and `gradient·vᵀ` of a tile in f32, `[rows][LDA]`; when they are used up, room for columns that are turned.
    scores: [*mut f32; 2],
    /// Gradients of scores and probabilities, pairs along the queries: `[queries/2][LDA]`.
    columns: [*mut f32; 2],
    /// Gradients of scores, pairs along the keys: `[queries][LDA]`.
    slopes: *mut f32,
    /// `dq [queries][padded]`, `dk` and `dv [keys][padded]`.
    dq: *mut f32,
    sums: [*mut f32; 2],
}

impl Buffers {
    fn new(p: &Plan, scratch: *mut f32) -> Self {
        let mut next = scratch;
        let [a, b, c, d, e, f, slopes, dq, i] = p.parts().map(|words| {
            let part = next;
            next = next.wrapping_add(words);
            part
        });
        let two = |x: *mut f32, first: usize| [x, x.wrapping_add(first)];
        let [queries, _] = p.block;
        Buffers {
            rows: two(a, p.keys.next_multiple_of(PANEL) * p.words[0]),
            keys: b,
            gathered: two(c, queries * LDA),
            panels: two(d, queries / 2 * p.padded[0]),
            scores: two(e, p.rows * LDA),
            columns: two(f, queries / 2 * LDA),
            slopes,
            dq,
            sums: two(i, p.keys * p.padded[0]),
        }
    }
}

/// One sequence.
struct Gradient {
    scale: f32,
    plan: Plan,
    /// `q, k, v, out, gradient`
    operands: [Sequence<bf16>; 5],
    /// What the sequence after this one reads and writes.
    next: [Sequence<bf16>; 8],
    lse: Sequence<f32>,
    /// `dq, dk, dv`
    results: [Sequence<bf16>; 3],
}

impl Gradient {
    /// # Safety
    /// The buffers are as large as the plan says; the machine must have the level.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn run(&self, buffers: &Buffers, unit: &mut Unit) {
        let p = &self.plan;
        // SAFETY: passed on from the caller.
        unsafe {
            pack_rows(&self.operands[1], p.words[0], (0, p.keys), buffers.rows[0]);
            pack_rows(&self.operands[2], p.words[1], (0, p.keys), buffers.rows[1]);
            pack_channels(&self.operands[1], (0, p.keys), (p.key_words, p.key_words), buffers.keys);
            for which in 0..2 {
                buffers.sums[which].write_bytes(0, p.keys * p.padded[which]);
            }
            for low in (0..p.queries).step_by(p.block[0]) {
                self.block(buffers, unit, low, p.block[0].min(p.queries - low));
            }
            for (which, factor) in [self.scale, 1.0].into_iter().enumerate() {
                self.write(1 + which, (0, p.keys), buffers.sums[which], p.padded[which], factor);
            }
        }
    }

    /// Adds what a block of queries gives to the gradients of keys and values, and writes that of its own.
    ///
    /// # Safety
    /// As [`Gradient::run`], keys and values being packed.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn block(&self, buffers: &Buffers, unit: &mut Unit, low: usize, count: usize) {
        let (p, pairs) = (&self.plan, count.div_ceil(2));
        let words = pairs::words(p.level, count);
        // SAFETY: passed on from the caller; the buffers have room for a block.
        unsafe {
            for (which, x) in [&self.operands[0], &self.operands[4]].into_iter().enumerate() {
                gather(x, (low, count), buffers.gathered[which], LDA);
                pack_channels(x, (low, count), (words, words), buffers.panels[which]);
            }
            let dots = self.dots(low, count);
            for k0 in (0..p.keys).step_by(p.block[1]) {
                let keys = p.block[1].min(p.keys - k0);
                // Whole pairs of queries to a tile.
                for (first, last) in unit.cut(pairs, p.rows / 2) {
                    let (first, last) = (2 * first, count.min(2 * last));
                    if k0 == 0 {
                        for next in &self.next {
                            next.prefetch::<Avx512>((low + first, low + last));
                        }
                    }
                    self.scores(buffers, unit, first, last - first, (k0, keys));
                    for r in (first..last).step_by(2) {
                        self.slopes(buffers, low, (r, r - first, last - r), keys, &dots);
                    }
                    for (panel, c) in (0..p.padded[0]).step_by(PANEL).enumerate() {
                        unit.tile_rows::<Avx512>(Tile {
                            rows: last - first,
                            kc: pairs::words(p.level, keys),
                            a: buffers.slopes.add(first * LDA),
                            b: buffers.keys.add((panel * p.key_words + k0 / 2) * PANEL),
                            c: buffers.dq.add(first * p.padded[0] + c),
                            ldc: p.padded[0],
                            add: k0 != 0,
                            later: None,
                        });
                    }
                }
                // dk from the gradients of the scores and the queries, dv from the probabilities and the gradients.
                for which in 0..2 {
                    let padded = p.padded[which];
                    for (first, last) in unit.tiles::<Avx512>(keys) {
                        let (rows, columns) = (last - first, buffers.columns[which].add(first));
                        let a = unit.columns(columns, (rows, pairs), buffers.scores[0]);
                        for (panel, c) in (0..padded).step_by(PANEL).enumerate() {
                            unit.tile_columns::<Avx512>(Tile {
                                rows,
                                kc: words,
                                a,
                                b: buffers.panels[which].add(panel * words * PANEL),
                                c: buffers.sums[which].add((k0 + first) * padded + c),
                                ldc: padded,
                                add: true,
                                later: None,
                            });
                        }
                    }
                }
            }
            self.write(0, (low, count), buffers.dq, p.padded[0], self.scale);
        }
    }

    /// Scores and `gradient·vᵀ` of `rows` queries of the block and the keys from `k0` on.
    ///
    /// # Safety
    /// As [`Gradient::block`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn scores(&self, buffers: &Buffers, unit: &mut Unit, first: usize, rows: usize, (k0, keys): (usize, usize)) {
        for which in 0..2 {
            let words = self.plan.words[which];
            for j in (0..keys).step_by(PANEL) {
                // SAFETY: passed on from the caller.
                unsafe {
                    unit.tile_rows::<Avx512>(Tile {
                        rows,
                        kc: words,
                        a: buffers.gathered[which].add(first * LDA),
                        b: buffers.rows[which].add((k0 + j) * words),
                        c: buffers.scores[which].add(j),
                        ldc: LDA,
                        add: false,
                        later: None,
                    });
                }
            }
        }
    }

    /// From scores and `gradient·vᵀ` of the queries `r` and, if `left > 1`, the next, to their probabilities and gradients of scores, which are
    /// 0 for a query that is not there and for keys up to a whole panel. `at` is their row in the tile.
    ///
    /// # Safety
    /// As [`Gradient::block`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
    unsafe fn slopes(
        &self,
        buffers: &Buffers,
        low: usize,
        (r, at, left): (usize, usize, usize),
        keys: usize,
        dots: &[f32; QUERIES],
    ) {
        // Of a vector of 16 bf16 of one query, then 16 of the next.
        let in_turn = in_turn(0, 16);
        let factor = _mm512_set1_ps(self.scale * std::f32::consts::LOG2_E);
        // SAFETY: passed on from the caller; rows of LDA have room for a whole panel.
        unsafe {
            let mut minus = [_mm512_setzero_ps(); 2];
            let mut dot = [_mm512_setzero_ps(); 2];
            for row in 0..left.min(2) {
                let lse = *self.lse.base.get().add((low + r + row) * self.lse.stride);
                minus[row] = _mm512_set1_ps(-lse * std::f32::consts::LOG2_E);
                dot[row] = _mm512_set1_ps(dots[r + row]);
            }
            for j in (0..keys).step_by(PANEL) {
                // Of a query and half a panel.
                let gradient = |row: usize, half: usize| {
                    if row >= left {
                        return (_mm512_setzero_ps(), _mm512_setzero_ps());
                    }
                    let lanes = first(keys.saturating_sub(j + 16 * half));
                    let from = (at + row) * LDA + j + 16 * half;
                    let (score, product) =
                        (_mm512_loadu_ps(buffers.scores[0].add(from)), _mm512_loadu_ps(buffers.scores[1].add(from)));
                    let weight = _mm512_maskz_mov_ps(lanes, exp2_brief(_mm512_fmadd_ps(score, factor, minus[row])));
                    (weight, _mm512_maskz_mul_ps(lanes, weight, _mm512_sub_ps(product, dot[row])))
                };
                let [[a, b], [x, y]] = [[gradient(0, 0), gradient(0, 1)], [gradient(1, 0), gradient(1, 1)]];
                let columns = |which: usize, half: usize, low: __m512, high: __m512| {
                    let words = _mm512_permutexvar_epi16(in_turn, round(low, high));
                    _mm512_storeu_si512(buffers.columns[which].add(r / 2 * LDA + j + 16 * half).cast(), words);
                };
                columns(0, 0, a.1, x.1);
                columns(0, 1, b.1, y.1);
                columns(1, 0, a.0, x.0);
                columns(1, 1, b.0, y.0);
                _mm512_storeu_si512(buffers.slopes.add(r * LDA + j / 2).cast(), round(a.1, b.1));
                if left > 1 {
                    _mm512_storeu_si512(buffers.slopes.add((r + 1) * LDA + j / 2).cast(), round(x.1, y.1));
                }
            }
        }
    }

    /// `Σ gradient·out` of each query of a block.
    ///
    /// # Safety
    /// The queries lie in the sequence.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn dots(&self, low: usize, count: usize) -> [f32; QUERIES] {
        let [.., out, gradient] = &self.operands;
        let mut dots = [0.0; QUERIES];
        for (r, dot) in dots.iter_mut().enumerate().take(count) {
            let mut sum = _mm512_setzero_ps();
            for c in (0..out.width).step_by(32) {
                let row = |x: &Sequence<bf16>| {
                    let at = (low + r) * x.stride + c * x.step;
                    // SAFETY: passed on from the caller.
                    unsafe { load(x.base.get().add(at), x.step, 32.min(x.width - c)) }
                };
                sum = multiply_add(sum, row(out), row(gradient));
            }
            *dot = _mm512_reduce_add_ps(sum);
        }
        dots
    }

    /// Rows of sums, times `factor`, into tokens of a result.
    ///
    /// # Safety
    /// `sums` holds `count` rows of `padded`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn write(&self, which: usize, (low, count): (usize, usize), sums: *const f32, padded: usize, factor: f32) {
        let out = &self.results[which];
        for r in 0..count {
            // SAFETY: results are contiguous and of the operands' shapes.
            unsafe { store(out.base.get().add((low + r) * out.stride), sums.add(r * padded), out.width, factor) };
        }
    }
}
