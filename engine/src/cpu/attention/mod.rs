//! Softmax attention that never stores the matrix of scores.
//!
//! Sequences of several queries go through register tiles ([`tiled`]); one query, or few, stream over the keys ([`streaming`]).

mod pack;
mod streaming;
mod tiled;

use super::{Cpu, Shared, with_float};
use crate::{Element, Result, Tensor, ops::attention::Attention};
pub(super) use pack::{pack_channels, pack_rows};
pub(super) use tiled::exponentials;

/// Up to this many queries, packing the keys costs more than it saves: every key is read once per query anyway.
const STREAMING_QUERIES: usize = 3;

/// An operand `[B, X, Y, heads, D]`.
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
        let shape = std::array::from_fn(|d| x.shape()[d]);
        let strides = std::array::from_fn(|d| x.layout().strides()[d]);
        Ok(Grid { base: Shared(cpu.ptr(x)?), shape, strides, axis })
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

pub fn run(op: &Attention, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    with_float!("attention", outputs[0].dtype(), T => typed::<T>(op, inputs, outputs, cpu))
}

fn typed<T: Element>(op: &Attention, inputs: &[Option<&Tensor>], outputs: &[Tensor], cpu: &Cpu) -> Result<()> {
    let [Some(q), Some(k), Some(v)] = *inputs else { return Ok(()) };
    let lse = match outputs.get(1) {
        Some(lse) => Some(Grid::new(&lse.reshape(&[lse.shape(), &[1][..]].concat())?, op.axis, cpu)?),
        None => None,
    };
    let operands = Operands {
        q: Grid::<T>::new(q, op.axis, cpu)?,
        k: Grid::new(k, op.axis, cpu)?,
        v: Grid::new(v, op.axis, cpu)?,
        out: Grid::new(&outputs[0], op.axis, cpu)?,
        lse,
        scale: op.scale,
    };
    if q.shape()[op.axis] <= STREAMING_QUERIES || k.shape()[op.axis] == 0 {
        streaming::run(&operands, cpu)
    } else {
        tiled::run(&operands, cpu)
    }
}
