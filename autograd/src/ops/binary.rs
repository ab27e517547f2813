//! Sums over what was broadcast. Of two equal operands of a maximum or minimum, the second gets the gradient.

use tubelet_engine::{
    Function, Result, Tensor,
    ops::{
        binary::{Binary, Operator, binary, mul},
        unary::unary,
        unary_backward::unary_backward,
    },
};

use super::{At, Keep, Rule};
use crate::backward::unbroadcast;

impl Rule for Binary {
    fn keep(&self, wanted: &[bool], _: &[Option<&Tensor>]) -> Keep {
        let inputs = match self.operator {
            Operator::Add | Operator::Sub => Vec::new(),
            Operator::Mul => [1, 0].into_iter().filter(|i| wanted[1 - i]).collect(),
            Operator::Div if !wanted[1] => vec![1],
            Operator::Div | Operator::Max | Operator::Min => vec![0, 1],
        };
        Keep { inputs, outputs: Vec::new() }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let g = at.gradient()?;
        let parts = match self.operator {
            Operator::Add => [Some(g.clone()), Some(g.clone())],
            Operator::Sub => [Some(g.clone()), at.if_wanted(1, || unary(Function::Neg, g))?],
            Operator::Mul => [at.if_wanted(0, || mul(g, at.input(1)?))?, at.if_wanted(1, || mul(g, at.input(0)?))?],
            Operator::Div => {
                let da = binary(Operator::Div, g, at.input(1)?)?;
                // d(a/b)/db = −(a/b)/b
                let db = || unary(Function::Neg, &binary(Operator::Div, &mul(&da, at.input(0)?)?, at.input(1)?)?);
                let db = at.if_wanted(1, db)?;
                [Some(da), db]
            }
            Operator::Max | Operator::Min => {
                let difference = binary(Operator::Sub, at.input(0)?, at.input(1)?)?;
                let sign = if self.operator == Operator::Max { difference } else { unary(Function::Neg, &difference)? };
                // The gradient where the first operand won.
                let first = unary_backward(Function::Relu, &sign, g)?;
                let second = binary(Operator::Sub, g, &first)?;
                [Some(first), Some(second)]
            }
        };
        let fitted = parts.into_iter().enumerate().map(|(i, part)| match part.filter(|_| at.wants(i)) {
            Some(part) => unbroadcast(&part, &at.operand(i)?.shape).map(Some),
            None => Ok(None),
        });
        fitted.collect()
    }
}
