//! The gradient of attention of [short sequences](crate::cpu::attention::short), and of few queries: scores and their gradients as
//! `[keys][queries]`, no panels.

use std::f32::consts::LOG2_E;

use super::Operands;
use crate::{
    Element, Result,
    cpu::{
        Cpu,
        attention::{
            Sequence,
            short::{self, Rows, chunk, combine, dots, padded},
        },
        convert::load,
        simd::{Kernel, Simd, math},
    },
};

/// Up to this many queries, packing the keys costs more than it saves.
const FEW: usize = 3;

/// Whether sequences of such lengths are served here, `pairs` being the alternative or not.
pub(super) fn serves(queries: usize, keys: usize, pairs: bool) -> bool {
    keys > 0 && (1..=FEW).contains(&queries) || short::serves(queries, keys, pairs)
}

pub(super) fn run<T: Element>(x: &Operands<T>, cpu: &Cpu) -> Result<()> {
    let [q, k, v, ..] = &x.operands;
    let (sequences, queries, keys) = (q.sequences(), q.tokens(), k.tokens());
    let [width, value_width] = [q.shape[4], v.shape[4]].map(padded);
    let scores = keys * padded(queries);
    let result = queries.max(keys) * width.max(value_width);
    let parts =
        [queries * width, keys * width, keys * value_width, queries * value_width, scores, scores, 2 * padded(queries), result];
    let chunk = chunk(sequences, 3 * queries * keys * (width + value_width), cpu.pool.threads());
    cpu.with_scratch(sequences.div_ceil(chunk), parts.iter().sum(), |task, scratch| {
        for i in task * chunk..sequences.min((task + 1) * chunk) {
            cpu.level.run(Gradient { x, i, parts, scratch: scratch.ptr().cast() });
        }
    })
}

/// One sequence.
struct Gradient<'a, T> {
    x: &'a Operands<T>,
    i: usize,
    /// Rooms for queries, keys, values, gradients, probabilities, gradients of scores, what each query has one of, and a result.
    parts: [usize; 8],
    scratch: *mut f32,
}

impl<T: Element> Kernel for Gradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        let (x, i) = (self.x, self.i);
        let [q, k, v, out, g] = x.operands.each_ref().map(|x| x.sequence(i));
        let [dq, dk, dv] = x.results.each_ref().map(|x| x.sequence(i));
        let mut next = self.scratch;
        // SAFETY: the scratch holds the parts, and each sequence has its own results.
        unsafe {
            for next in x.after(i) {
                next.prefetch::<S>((0, short::SHORT));
            }
            let [q_room, k_room, v_room, g_room, weights, slopes, scalars, room] = self.parts.map(|floats| {
                let part = next;
                next = next.add(floats);
                part
            });
            let stride = padded(q.len);
            self.scalars::<S>([&out, &g], scalars, stride);
            let (q, k) = (Rows::new::<S, T>(&q, q_room), Rows::new::<S, T>(&k, k_room));
            let (v, g) = (Rows::new::<S, T>(&v, v_room), Rows::new::<S, T>(&g, g_room));
            dots::<S>(&q, &k, weights, stride);
            dots::<S>(&g, &v, slopes, stride);
            for lane in (0..q.len).step_by(S::LANES) {
                let (lse, dot) = (S::load(scalars.add(lane)), S::load(scalars.add(stride + lane)));
                let (scale, lse) = (S::splat(x.scale * LOG2_E), S::mul(lse, S::splat(-LOG2_E)));
                for j in 0..k.len {
                    let (p, ds) = (weights.add(j * stride + lane), slopes.add(j * stride + lane));
                    let d = S::fma(S::load(p), scale, lse);
                    // A score may be above the log-sum-exp by a rounding; NaN stays NaN.
                    let e = math::exp2::<S>(d);
                    S::store(p, e);
                    S::store(ds, S::mul(e, S::sub(S::load(ds), dot)));
                }
            }
            combine::<S, T>(slopes, [1, stride], &k, q.len, &dq, x.scale, room);
            combine::<S, T>(slopes, [stride, 1], &q, k.len, &dk, x.scale, room);
            combine::<S, T>(weights, [stride, 1], &g, k.len, &dv, 1.0, room);
        }
    }
}

impl<T: Element> Gradient<'_, T> {
    /// The log-sum-exp of each query, and in the next row its `Σ gradient·out`; zeros up to a whole vector.
    ///
    /// # Safety
    /// `to` holds two rows.
    #[inline(always)]
    unsafe fn scalars<S: Simd>(&self, [out, g]: [&Sequence<T>; 2], to: *mut f32, stride: usize) {
        let lse = self.x.lse.sequence(self.i);
        // SAFETY: tokens and channels lie in the layout.
        unsafe {
            to.write_bytes(0, 2 * stride);
            for r in 0..out.len {
                let mut sum = S::splat(0.0);
                for c in (0..out.width).step_by(S::LANES) {
                    let lanes = S::LANES.min(out.width - c);
                    let a = load::<S, T>(out.base.get().add(r * out.stride + c * out.step), out.step, lanes);
                    let b = load::<S, T>(g.base.get().add(r * g.stride + c * g.step), g.step, lanes);
                    sum = S::fma(a, b, sum);
                }
                to.add(r).write(*lse.base.get().add(r * lse.stride));
                to.add(stride + r).write(S::sum(sum));
            }
        }
    }
}
