//! Softmax attention that never stores the matrix of scores.
//!
//! Sequences of several queries go through register tiles ([`tiled`], and for bf16 [`pairs`] where the machine multiplies those), or, if they
//! are short, without ([`short`]); one query, or few, stream over the keys ([`streaming`]).

mod pack;
#[cfg(target_arch = "x86_64")]
pub(super) mod pair_panels;
#[cfg(target_arch = "x86_64")]
mod pairs;
pub(super) mod short;
mod streaming;
mod tiled;

use super::{Cpu, Shared, simd::Simd, with_float};
use crate::{DType, Element, Result, Tensor, ops::attention::Attention};
pub(super) use pack::{pack_channels, pack_rows};
pub(super) use tiled::exponentials;

/// Up to this many queries, packing the keys costs more than it saves: every key is read once per query anyway.
const STREAMING_QUERIES: usize = 3;

/// An operand `[B, X, Y, heads, D]`, or `[B, X, Y, heads]` with one number to a token.
pub(super) struct Grid<T> {
    base: Shared<T>,
    pub shape: [usize; 5],
    strides: [usize; 5],
    axis: usize,
}

/// The rows `[L, D]` of one batch element, head and position beside the axis.
#[derive(Clone, Copy)]
pub(super) struct Sequence<T> {
    pub base: Shared<T>,
    pub len: usize,
    pub width: usize,
    /// Distance of tokens.
    pub stride: usize,
    /// Distance of channels.
    pub step: usize,
}

impl<T: Element> Grid<T> {
    pub fn new(x: &Tensor, axis: usize, cpu: &Cpu) -> Result<Self> {
        let shape = std::array::from_fn(|d| if d < x.rank() { x.shape()[d] } else { 1 });
        let strides = std::array::from_fn(|d| if d < x.rank() { x.layout().strides()[d] } else { 1 });
        Ok(Grid { base: Shared(cpu.ptr(x)?), shape, strides, axis })
    }

    /// Tokens of a sequence.
    pub fn tokens(&self) -> usize {
        self.shape[self.axis]
    }

    /// Sequences in all.
    pub fn sequences(&self) -> usize {
        self.shape[0] * self.shape[3 - self.axis] * self.shape[3]
    }

    /// Sequence `i`, heads varying fastest, then the position beside the axis.
    #[inline(always)]
    pub fn sequence(&self, i: usize) -> Sequence<T> {
        let (heads, beside) = (self.shape[3], self.shape[3 - self.axis]);
        let (h, y, b) = (i % heads, i / heads % beside, i / (heads * beside));
        let at = b * self.strides[0] + y * self.strides[3 - self.axis] + h * self.strides[3];
        Sequence {
            // SAFETY: a position within the layout.
            base: Shared(unsafe { self.base.get().add(at) }),
            len: self.shape[self.axis],
            width: self.shape[4],
            stride: self.strides[self.axis],
            step: self.strides[4],
        }
    }

    /// The sequence after `i`, without a token if there is none.
    pub fn after(&self, i: usize) -> Sequence<T> {
        let next = i + 1;
        if next < self.sequences() { self.sequence(next) } else { Sequence { len: 0, ..self.sequence(i) } }
    }
}

impl<T: Element> Sequence<T> {
    /// Asks for the tokens `low..high`, as far as there are such. The tokens of a head are far from each other, so that no processor guesses which
    /// come next. Into L2, since rows at such distances push each other out of L1: measured, that gave a third of the gain, or a loss.
    ///
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    pub unsafe fn prefetch<S: Simd>(&self, (low, high): (usize, usize)) {
        for token in low..high.min(self.len) {
            let row = self.base.get().wrapping_add(token * self.stride);
            for channel in (0..self.width).step_by(64 / size_of::<T>()) {
                // SAFETY: passed on from the caller.
                unsafe { S::prefetch_later(row.wrapping_add(channel * self.step).cast()) };
            }
        }
    }
}

/// The operands of one attention.
struct Operands<T> {
    q: Grid<T>,
    k: Grid<T>,
    v: Grid<T>,
    out: Grid<T>,
    lse: Option<Grid<f32>>,
    scale: f32,
}

/// Whether attention of such a type and widths is made of pairs of bf16, unless it is of few queries or short.
#[cfg(target_arch = "x86_64")]
pub(super) fn serves_pairs(dtype: DType, widths: [usize; 2], cpu: &Cpu) -> bool {
    dtype == DType::BF16 && super::pairs::wanted(cpu) && widths.iter().all(|w| (1..=pair_panels::WIDEST).contains(w))
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn serves_pairs(_: DType, _: [usize; 2], _: &Cpu) -> bool {
    false
}

pub fn run(op: &Attention, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(q), Some(k), Some(v)] = *inputs else { return Ok(()) };
    let (queries, keys) = (q.shape()[op.axis], k.shape()[op.axis]);
    let streams = queries <= STREAMING_QUERIES || keys == 0;
    let pairs = serves_pairs(outputs[0].dtype(), [q.shape()[4], v.shape()[4]], cpu);
    let short = short::serves(queries, keys, pairs);
    #[cfg(target_arch = "x86_64")]
    if pairs && !streams && !short {
        return pairs::run(&Operands::new(op, [q, k, v], outputs, cpu)?, cpu);
    }
    with_float!("attention", outputs[0].dtype(), T => {
        let operands = Operands::<T>::new(op, [q, k, v], outputs, cpu)?;
        match () {
            () if streams => streaming::run(&operands, cpu),
            () if short => short::run(&operands, cpu),
            () => tiled::run(&operands, cpu),
        }
    })
}

impl<T: Element> Operands<T> {
    fn new(op: &Attention, [q, k, v]: [&Tensor; 3], outputs: &[Tensor], cpu: &Cpu) -> Result<Self> {
        Ok(Operands {
            q: Grid::new(q, op.axis, cpu)?,
            k: Grid::new(k, op.axis, cpu)?,
            v: Grid::new(v, op.axis, cpu)?,
            out: Grid::new(&outputs[0], op.axis, cpu)?,
            lse: outputs.get(1).map(|lse| Grid::new(lse, op.axis, cpu)).transpose()?,
            scale: op.scale,
        })
    }

    /// What the sequence after `i` reads and writes.
    fn after(&self, i: usize) -> [Sequence<T>; 4] {
        [&self.q, &self.k, &self.v, &self.out].map(|x| x.after(i))
    }
}
