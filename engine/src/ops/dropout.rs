//! Dropout of elements, or of whole samples (drop path), with counter-based random numbers.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Tensor, philox4x32};

/// `y = x · m / (1 − p)` where `m` is 0 with probability `p` and 1 otherwise, one draw for each run of the last `shared` dimensions: 0 for
/// dropout of elements, all but the first for drop path (stochastic droplayer; Huang et al., 2016).
///
/// Draw `i`, counted in row-major order, is word `i mod 4` of the Philox block with counter `⌊i/4⌋` in stream `stream` under `seed`: the same on
/// every device, and the backward pass draws it again instead of keeping a mask.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | any | any strides |
/// | result | as `x` | |
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// p, in `0..1`.
    pub probability: f32,
    /// Of the run.
    pub seed: u64,
    /// Of this layer in this step.
    pub stream: u64,
    /// How many of the last dimensions share a draw.
    pub shared: usize,
}

impl Dropout {
    /// What the elements of draw `i` are multiplied by.
    #[inline]
    pub fn factor(&self, i: u64) -> f32 {
        let counter = [(i / 4) as u32, ((i / 4) >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let word = philox4x32(counter, [self.seed as u32, (self.seed >> 32) as u32])[(i % 4) as usize];
        // 24 bits, as in `Philox::uniform`.
        let uniform = (word >> 8) as f32 * (1.0 / (1 << 24) as f32);
        if uniform < self.probability { 0.0 } else { 1.0 / (1.0 - self.probability) }
    }
}

impl Operation for Dropout {
    const NAME: &'static str = "dropout";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 1)?;
        let x = check::need(op, inputs, 0, "x")?;
        check::float(op, x, "x")?;
        if !(0.0..1.0).contains(&self.probability) {
            return Err(Error::invalid("probability", format!("{} is not in 0..1", self.probability)));
        }
        if self.shared > x.rank() {
            return Err(Error::shape(op, format!("{} dimensions of {} cannot share a draw", self.shared, x.shape())));
        }
        Ok(vec![Spec { dtype: x.dtype(), shape: *x.shape() }])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, outputs[0].shape.elements() as u128)
    }
}

/// See [`Dropout`].
pub fn dropout(op: Dropout, x: &Tensor) -> Result<Tensor> {
    run_one(op, &[Some(x)])
}
