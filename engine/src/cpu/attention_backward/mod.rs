//! Gradient of attention in register tiles, of bf16 in [`pairs`] where the machine multiplies those, of few queries and short sequences without
//! tiles ([`short`]): the probabilities are computed again, block by block, from the log-sum-exp (Dao et al., FlashAttention, algorithm 4).
//!
//! A task is one sequence, so that no two threads add to the same `dk` and `dv` and the order of additions depends on the shape alone. For each
//! block of queries and each block of keys there are five products: scores and `gradient·vᵀ` by the tile of the blocked product over packed keys
//! and values, `dq` by the same tile, `dv` and `dk` by its transposed form, which sums over queries.

#[cfg(target_arch = "x86_64")]
mod pairs;
mod short;

use std::f32::consts::LOG2_E;

use super::{
    Cpu,
    attention::{Grid, Sequence, pack_channels, pack_rows, serves_pairs},
    convert::{load, store},
    product::{KC, LDA, panel_width, part, tile_columns, tile_rows},
    simd::{Kernel, Simd, math},
    with_float,
};
use crate::{Element, Result, Tensor, ops::attention_backward::AttentionBackward};

/// Keys of a block: a row of its scores has the layout of a gathered row of the blocked product.
const KEYS: usize = KC;
/// Queries of a block: the depth of the products that sum over queries. Four tiles of 14 rows, and whole tiles of the narrower levels.
const QUERIES: usize = 56;

/// The operands of one gradient.
struct Operands<T> {
    scale: f32,
    /// `q, k, v, out, gradient`
    operands: [Grid<T>; 5],
    lse: Grid<f32>,
    /// `dq, dk, dv`
    results: [Grid<T>; 3],
}

impl<T: Element> Operands<T> {
    fn new(op: &AttentionBackward, [q, k, v, out, lse, gradient]: [&Tensor; 6], outputs: &[Tensor], cpu: &Cpu) -> Result<Self> {
        let grid = |x: &Tensor| Grid::new(x, op.axis, cpu);
        Ok(Operands {
            scale: op.scale,
            operands: [grid(q)?, grid(k)?, grid(v)?, grid(out)?, grid(gradient)?],
            lse: Grid::new(lse, op.axis, cpu)?,
            results: [grid(&outputs[0])?, grid(&outputs[1])?, grid(&outputs[2])?],
        })
    }

    /// What the sequence after `i` reads and writes.
    fn after(&self, i: usize) -> [Sequence<T>; 8] {
        let [q, k, v, out, gradient] = &self.operands;
        let [dq, dk, dv] = &self.results;
        [q, k, v, out, gradient, dq, dk, dv].map(|x| x.after(i))
    }
}

pub fn run(op: &AttentionBackward, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(q), Some(k), Some(v), Some(out), Some(lse), Some(gradient)] = *inputs else { return Ok(()) };
    let (operands, keys) = ([q, k, v, out, lse, gradient], k.shape()[op.axis]);
    let pairs = keys > 0 && serves_pairs(outputs[0].dtype(), [q.shape()[4], v.shape()[4]], cpu);
    let short = short::serves(q.shape()[op.axis], keys, pairs);
    #[cfg(target_arch = "x86_64")]
    if pairs && !short {
        return pairs::run(&Operands::new(op, operands, outputs, cpu)?, cpu);
    }
    with_float!("attention_backward", outputs[0].dtype(), T => {
        let operands = Operands::<T>::new(op, operands, outputs, cpu)?;
        if short { short::run(&operands, cpu) } else { typed(&operands, cpu) }
    })
}

/// Sizes of one sequence, and with them the scratch of a thread.
#[derive(Clone, Copy)]
struct Plan {
    queries: usize,
    keys: usize,
    /// Widths of queries and values, and rounded up to a panel.
    widths: [usize; 2],
    padded: [usize; 2],
    padded_keys: usize,
}

impl Plan {
    /// Blocks of `KC` channels.
    fn channels(&self, of: usize) -> usize {
        self.widths[of].div_ceil(KC).max(1)
    }

    /// The parts of the scratch, in f32.
    fn parts(&self) -> [usize; 10] {
        let [width, value_width] = self.widths;
        let [padded, padded_values] = self.padded;
        [
            self.padded_keys * width,
            self.padded_keys * value_width,
            self.keys * padded,
            QUERIES * LDA * self.channels(0),
            QUERIES * LDA * self.channels(1),
            QUERIES * (padded + padded_values),
            QUERIES * LDA,
            QUERIES * LDA,
            QUERIES * padded,
            self.keys * (padded + padded_values),
        ]
    }
}

fn typed<T: Element>(x: &Operands<T>, cpu: &Cpu) -> Result<()> {
    let [q, k, v, ..] = &x.operands;
    let panel = panel_width(cpu);
    let (keys, widths) = (k.tokens(), [q.shape[4], v.shape[4]]);
    let plan = Plan {
        queries: q.tokens(),
        keys,
        widths,
        padded: widths.map(|w| w.next_multiple_of(panel)),
        padded_keys: keys.next_multiple_of(panel),
    };
    cpu.with_scratch(q.sequences(), plan.parts().iter().sum(), |i, scratch| {
        cpu.level.run(Gradient {
            scale: x.scale,
            plan,
            operands: x.operands.each_ref().map(|x| x.sequence(i)),
            next: x.after(i),
            lse: x.lse.sequence(i),
            results: x.results.each_ref().map(|x| x.sequence(i)),
            scratch: scratch.ptr().cast(),
        });
    })
}

/// One sequence.
struct Gradient<T> {
    scale: f32,
    plan: Plan,
    /// `q, k, v, out, gradient`
    operands: [Sequence<T>; 5],
    /// What the sequence after this one reads and writes.
    next: [Sequence<T>; 8],
    lse: Sequence<f32>,
    /// `dq, dk, dv`
    results: [Sequence<T>; 3],
    scratch: *mut f32,
}

/// Pointers into the scratch.
#[derive(Clone, Copy)]
struct Buffers {
    /// Keys and values as `[L/NR][D][NR]`.
    rows: [*mut f32; 2],
    /// Keys as `[D/NR][L][NR]`.
    keys: *mut f32,
    /// Scaled queries and gradients as `[D/KC][queries][LDA]`.
    gathered: [*mut f32; 2],
    /// Scaled queries and gradients as `[D/NR][queries][NR]`.
    panels: [*mut f32; 2],
    /// Probabilities and gradients of scores, `[queries][LDA]`.
    probabilities: *mut f32,
    slopes: *mut f32,
    /// `dq [queries][padded]`, `dk` and `dv [keys][padded]`.
    dq: *mut f32,
    sums: [*mut f32; 2],
}

impl<T: Element> Gradient<T> {
    fn buffers(&self) -> Buffers {
        let p = &self.plan;
        let mut next = self.scratch;
        let [a, b, c, d, e, f, g, h, i, j] = p.parts().map(|floats| {
            let part = next;
            // SAFETY: the scratch holds the sum of the parts.
            next = unsafe { next.add(floats) };
            part
        });
        // SAFETY: both parts hold the queries' share first.
        let second = unsafe { [f.add(QUERIES * p.padded[0]), j.add(p.keys * p.padded[0])] };
        Buffers {
            rows: [a, b],
            keys: c,
            gathered: [d, e],
            panels: [f, second[0]],
            probabilities: g,
            slopes: h,
            dq: i,
            sums: [j, second[1]],
        }
    }

    /// Queries (of `which` 0) or gradients (1) `low..low + count`, times `factor`, in both forms.
    ///
    /// # Safety
    /// The buffers hold a block of queries.
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, buffers: &Buffers, which: usize, (low, count): (usize, usize), factor: f32) {
        let (x, p, panel) = (&self.operands[if which == 0 { 0 } else { 4 }], &self.plan, 2 * S::LANES);
        // SAFETY: whoever has `S` runs on a machine with its instructions.
        let factor = unsafe { S::splat(factor) };
        // SAFETY: tokens and channels lie in the layout; partial vectors read only channels below the width.
        unsafe {
            for r in 0..count {
                let src = x.base.get().add((low + r) * x.stride);
                for c in (0..p.padded[which]).step_by(S::LANES) {
                    let lanes = S::LANES.min(p.widths[which].saturating_sub(c));
                    let y =
                        if lanes == 0 { S::splat(0.0) } else { S::mul(load::<S, T>(src.add(c * x.step), x.step, lanes), factor) };
                    let half = c % panel;
                    S::store(buffers.panels[which].add((c / panel * count + r) * panel + half), y);
                    // KC is a multiple of a vector, and LDA leaves room for the last one.
                    S::store(buffers.gathered[which].add((c / KC * QUERIES + r) * LDA + c % KC), y);
                }
            }
        }
    }

    /// `products[r, j] = gathered row r · key (or value) j` for `keys` from `k0` on, of `which`.
    ///
    /// # Safety
    /// The buffers are packed.
    #[inline(always)]
    unsafe fn products<S: Simd>(&self, buffers: &Buffers, which: usize, count: usize, (k0, keys): (usize, usize), out: *mut f32) {
        let (width, panel, tiles) = (self.plan.widths[which], 2 * S::LANES, count.div_ceil(S::MR));
        // SAFETY: passed on from the caller.
        unsafe {
            for tile in 0..tiles {
                let (low, high) = part(count, tiles, tile);
                for j in (0..keys).step_by(panel) {
                    if width == 0 {
                        (low..high).for_each(|r| out.add(r * LDA + j).write_bytes(0, panel));
                    }
                    for (c, d0) in (0..width).step_by(KC).enumerate() {
                        let a = buffers.gathered[which].add((c * QUERIES + low) * LDA);
                        let b = buffers.rows[which].add((k0 + j) * width + d0 * panel);
                        tile_rows::<S>(high - low, KC.min(width - d0), a, b, out.add(low * LDA + j), LDA, c != 0);
                    }
                }
            }
        }
    }

    /// From scores and `gradient·vᵀ` to probabilities and gradients of the scores.
    ///
    /// # Safety
    /// The buffers hold `count` rows.
    #[inline(always)]
    unsafe fn slopes<S: Simd>(&self, buffers: &Buffers, low: usize, count: usize, keys: usize, dots: &[f32; QUERIES]) {
        // SAFETY: rows of LDA have room for the last vector.
        unsafe {
            for (r, &dot) in dots.iter().enumerate().take(count) {
                let lse = S::splat(-LOG2_E * *self.lse.base.get().add((low + r) * self.lse.stride));
                let dot = S::splat(dot);
                let (p, ds) = (buffers.probabilities.add(r * LDA), buffers.slopes.add(r * LDA));
                for j in (0..keys).step_by(S::LANES) {
                    let d = S::fma(S::load(p.add(j)), S::splat(LOG2_E), lse);
                    // A score may be above the log-sum-exp by a rounding; NaN stays NaN.
                    let e = math::exp2::<S>(d);
                    S::store(p.add(j), e);
                    S::store(ds.add(j), S::mul(e, S::sub(S::load(ds.add(j)), dot)));
                }
            }
        }
    }

    /// `Σ gradient·out` of each query of a block.
    ///
    /// # Safety
    /// The queries lie in the sequence.
    #[inline(always)]
    unsafe fn dots<S: Simd>(&self, low: usize, count: usize) -> [f32; QUERIES] {
        let [.., out, gradient] = &self.operands;
        let mut dots = [0.0; QUERIES];
        for (r, dot) in dots.iter_mut().enumerate().take(count) {
            // SAFETY: passed on from the caller; partial vectors read only channels below the width, and are 0 beyond.
            unsafe {
                let (a, b) = (out.base.get().add((low + r) * out.stride), gradient.base.get().add((low + r) * gradient.stride));
                let mut sum = S::splat(0.0);
                for c in (0..out.width).step_by(S::LANES) {
                    let lanes = S::LANES.min(out.width - c);
                    let a = load::<S, T>(a.add(c * out.step), out.step, lanes);
                    let b = load::<S, T>(b.add(c * gradient.step), gradient.step, lanes);
                    sum = S::fma(a, b, sum);
                }
                *dot = S::sum(sum);
            }
        }
        dots
    }

    /// One block of queries against all keys.
    ///
    /// # Safety
    /// The buffers hold the packed keys and values.
    #[inline(always)]
    unsafe fn block<S: Simd>(&self, buffers: &Buffers, low: usize, count: usize) {
        let (p, panel, tiles) = (&self.plan, 2 * S::LANES, count.div_ceil(S::MR));
        // SAFETY: passed on from the caller; `Plan::parts` has room for a block.
        unsafe {
            for next in &self.next {
                next.prefetch::<S>((low, low + count));
            }
            self.gather::<S>(buffers, 0, (low, count), self.scale);
            self.gather::<S>(buffers, 1, (low, count), 1.0);
            let dots = self.dots::<S>(low, count);
            for k0 in (0..p.keys).step_by(KEYS) {
                let keys = KEYS.min(p.keys - k0);
                self.products::<S>(buffers, 0, count, (k0, keys), buffers.probabilities);
                self.products::<S>(buffers, 1, count, (k0, keys), buffers.slopes);
                self.slopes::<S>(buffers, low, count, keys, &dots);
                for tile in 0..tiles {
                    let (first, last) = part(count, tiles, tile);
                    for (i, c) in (0..p.padded[0]).step_by(panel).enumerate() {
                        let b = buffers.keys.add((i * p.keys + k0) * panel);
                        let to = buffers.dq.add(first * p.padded[0] + c);
                        tile_rows::<S>(last - first, keys, buffers.slopes.add(first * LDA), b, to, p.padded[0], k0 != 0);
                    }
                }
                // dk from the gradients of the scores and the scaled queries, dv from the probabilities and the gradients.
                for (which, from) in [buffers.slopes, buffers.probabilities].into_iter().enumerate() {
                    let (padded, tiles) = (p.padded[which], keys.div_ceil(S::MR));
                    for tile in 0..tiles {
                        let (first, last) = part(keys, tiles, tile);
                        for (i, c) in (0..padded).step_by(panel).enumerate() {
                            let b = buffers.panels[which].add(i * count * panel);
                            let to = buffers.sums[which].add((k0 + first) * padded + c);
                            tile_columns::<S>(last - first, count, from.add(first), b, to, padded);
                        }
                    }
                }
            }
            self.write::<S>(0, low, count, buffers.dq, self.plan.padded[0], self.scale);
        }
    }

    /// Rows of sums, times `factor`, into a result.
    ///
    /// # Safety
    /// `sums` holds `count` rows of `padded`.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, which: usize, low: usize, count: usize, sums: *const f32, padded: usize, factor: f32) {
        let out = &self.results[which];
        // SAFETY: whoever has `S` runs on a machine with its instructions.
        let factor = unsafe { S::splat(factor) };
        for r in 0..count {
            for c in (0..out.width).step_by(S::LANES) {
                // SAFETY: results are contiguous and of the operands' shapes.
                unsafe {
                    let y = S::mul(S::load(sums.add(r * padded + c)), factor);
                    store::<S, T>(out.base.get().add((low + r) * out.stride + c), y, S::LANES.min(out.width - c));
                }
            }
        }
    }
}

impl<T: Element> Kernel for Gradient<T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (buffers, p) = (self.buffers(), self.plan);
        // SAFETY: the scratch holds `Plan::parts`.
        unsafe {
            pack_rows::<S, T>(&self.operands[1], (0, p.keys), buffers.rows[0]);
            pack_rows::<S, T>(&self.operands[2], (0, p.keys), buffers.rows[1]);
            pack_channels::<S, T>(&self.operands[1], (0, p.keys), p.padded[0], buffers.keys);
            for which in 0..2 {
                buffers.sums[which].write_bytes(0, p.keys * p.padded[which]);
            }
            if p.keys == 0 {
                buffers.dq.write_bytes(0, QUERIES * p.padded[0]);
            }
            for low in (0..p.queries).step_by(QUERIES) {
                self.block::<S>(&buffers, low, QUERIES.min(p.queries - low));
            }
            // The queries in dk's products carry the scale already.
            self.write::<S>(1, 0, p.keys, buffers.sums[0], p.padded[0], 1.0);
            self.write::<S>(2, 0, p.keys, buffers.sums[1], p.padded[1], 1.0);
        }
    }
}
