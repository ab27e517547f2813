//! Arithmetic of two tensors, element by element, with broadcasting.

use super::{Operation, Spec, check, run_one};
use crate::{Error, Result, Shape, Tensor};

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `a + b`
    Add,
    /// `a − b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
    /// The larger; NaN if either is.
    Max,
    /// The smaller; NaN if either is.
    Min,
}

/// `y = a ∘ b` element by element.
///
/// | operand | shape | |
/// |---|---|---|
/// | `a`, `b` | aligned at the last dimension, equal or 1 | any strides, one element type |
/// | result | the larger of each size | |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary {
    /// The operator.
    pub operator: Operator,
}

impl Operation for Binary {
    const NAME: &'static str = "binary";

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 2)?;
        let (a, b) = (check::need(op, inputs, 0, "a")?, check::need(op, inputs, 1, "b")?);
        check::float(op, a, "a")?;
        check::dtype(op, b, "b", a.dtype())?;
        Ok(vec![Spec { dtype: a.dtype(), shape: broadcast(a.shape(), b.shape())? }])
    }

    fn flops(&self, _: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        (0, outputs[0].shape.elements() as u128)
    }
}

fn broadcast(a: &Shape, b: &Shape) -> Result<Shape> {
    let (long, short) = if a.rank() >= b.rank() { (a, b) } else { (b, a) };
    let mut out = long.to_vec();
    for (o, &s) in out.iter_mut().rev().zip(short.iter().rev()) {
        *o = match (*o, s) {
            (x, y) if x == y => x,
            (1, y) => y,
            (x, 1) => x,
            _ => return Err(Error::shape(Binary::NAME, format!("{a} and {b} do not broadcast"))),
        };
    }
    Shape::new(&out)
}

/// See [`Binary`].
pub fn binary(operator: Operator, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    run_one(Binary { operator }, &[Some(a), Some(b)])
}

/// `a + b`; see [`Binary`].
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(Operator::Add, a, b)
}

/// `a · b`; see [`Binary`].
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    binary(Operator::Mul, a, b)
}
