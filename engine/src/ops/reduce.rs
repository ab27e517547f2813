//! Sums, means, sums of squares and maxima over some dimensions.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Tensor};

/// What a reduction computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// Sum; 0 of nothing.
    Sum,
    /// Mean; NaN of nothing.
    Mean,
    /// Sum of the squares; 0 of nothing.
    Squares,
    /// Maximum; −∞ of nothing, NaN if any is.
    Max,
}

/// Reduces the dimensions in `axes`, which the result lacks. Half types accumulate in f32.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | any | any strides |
/// | result | `x`'s without `axes` | |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// What to compute.
    pub reduction: Reduction,
    /// Increasing dimensions.
    pub axes: Vec<usize>,
}

impl Operation for Reduce {
    const NAME: &'static str = "reduce";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        check::at_most(Self::NAME, inputs, 1)?;
        let x = check::need(Self::NAME, inputs, 0, "x")?;
        check::float(Self::NAME, x, "x")?;
        let increasing = self.axes.windows(2).all(|w| w[0] < w[1]) && self.axes.last().is_none_or(|&a| a < x.rank());
        if !increasing {
            return Err(Error::shape(
                Self::NAME,
                format!("axes {:?} of {}: expected increasing dimensions", self.axes, x.shape()),
            ));
        }
        let kept: Vec<usize> = (0..x.rank()).filter(|d| !self.axes.contains(d)).map(|d| x.shape()[d]).collect();
        Ok(vec![Spec::new(x.dtype(), &kept)?])
    }

    fn flops(&self, inputs: &[Option<&Tensor>], _: &[Spec]) -> (u128, u128) {
        (0, inputs[0].map_or(0, |x| x.elements() as u128))
    }
}

/// See [`Reduce`].
pub fn reduce(reduction: Reduction, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    run_one(Reduce { reduction, axes: axes.to_vec() }, &[Some(x)])
}
