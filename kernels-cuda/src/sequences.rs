//! What launchers of attention share: operands over one grid of tokens, as sequences along one axis.

use tubelet_engine::{Result, Tensor};

use crate::{
    backend::{CudaBackend, operand},
    nest::Nest,
};

/// `N` operands `[B, X, Y, heads, …]`: a sequence for each batch element, head, and place along the other axis.
pub(crate) struct Sequences<const N: usize> {
    pub nest: Nest<N>,
    /// From token to token.
    pub row: [i64; N],
    /// From channel to channel.
    pub channel: [i64; N],
    /// Sequences.
    pub count: usize,
}

impl<const N: usize> Sequences<N> {
    pub fn new(axis: usize, operands: [&Tensor; N]) -> Sequences<N> {
        let others = [0, 3 - axis, 3];
        let shape = others.map(|d| operands[0].shape()[d]);
        let strides = operands.map(|x| x.layout().strides());
        let along = strides.map(|s| others.map(|d| s[d]));
        let mut slices: [&[usize]; N] = [&[]; N];
        slices.iter_mut().zip(&along).for_each(|(slice, along)| *slice = along);
        Sequences {
            nest: Nest::new(&shape, slices),
            row: strides.map(|s| s[axis] as i64),
            channel: strides.map(|s| s.get(4).map_or(0, |&s| s as i64)),
            count: shape.iter().product(),
        }
    }
}

/// The sizes of attention: of queries and keys along the sequence, and of their channels.
pub(crate) struct Sizes {
    pub queries: u32,
    pub keys: u32,
    pub width: u32,
    pub value_width: u32,
}

impl Sizes {
    /// Of `q`, `k`, `v`, the first three operands.
    pub fn new(cuda: &CudaBackend, op: &'static str, axis: usize, inputs: &[Option<&Tensor>]) -> Result<Sizes> {
        let (q, k, v) = (operand(op, inputs, 0)?, operand(op, inputs, 1)?, operand(op, inputs, 2)?);
        Ok(Sizes {
            queries: cuda.count(op, q.shape()[axis])?,
            keys: cuda.count(op, k.shape()[axis])?,
            width: cuda.count(op, q.shape()[4])?,
            value_width: cuda.count(op, v.shape()[4])?,
        })
    }
}
