//! `a ∘ b` with broadcasting.

use super::{Array, operand};
use crate::{
    Result,
    ops::binary::{Binary, Operator},
};

pub fn run(op: &Binary, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let rank = a.shape.rank().max(b.shape.rank());
    let size = |x: &Array, d: usize| (d + x.shape.rank()).checked_sub(rank).map_or(1, |d| x.shape[d]);
    let shape: Vec<usize> = (0..rank).map(|d| if size(a, d) == 1 { size(b, d) } else { size(a, d) }).collect();
    let pick = |x: &Array, at: &[usize]| {
        let own = &at[rank - x.shape.rank()..];
        x.at(&own.iter().zip(x.shape.iter()).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect::<Vec<_>>())
    };
    let y = Array::from_fn(&shape, |at| apply(op.operator, pick(a, at), pick(b, at)))?;
    Ok(vec![y])
}

fn apply(operator: Operator, a: f64, b: f64) -> f64 {
    match operator {
        Operator::Add => a + b,
        Operator::Sub => a - b,
        Operator::Mul => a * b,
        Operator::Div => a / b,
        Operator::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Operator::Min if a.is_nan() || b.is_nan() => f64::NAN,
        Operator::Max => a.max(b),
        Operator::Min => a.min(b),
    }
}
