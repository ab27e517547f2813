//! Products with the transposed operands, which are views. An activation in the epilogue is recorded as an operation of its own, because its
//! rule needs the value before it.

use tubelet_engine::{
    Error, Result, Tensor,
    ops::{
        binary::add,
        gemm::{Gemm, gemm},
        unary::unary,
    },
};

use super::{At, Keep, Rule, sum_rows};

impl Rule for Gemm {
    fn lower(&self, inputs: &[Option<&Tensor>]) -> Option<Result<Vec<Tensor>>> {
        let function = self.function?;
        let (Some(x), Some(weight)) = (inputs.first().copied().flatten(), inputs.get(1).copied().flatten()) else { return None };
        let operand = |i: usize| inputs.get(i).copied().flatten();
        let run = || {
            let y = unary(function, &gemm(Gemm { function: None, ..*self }, x, weight, operand(2), None)?)?;
            match operand(3) {
                Some(residual) => add(residual, &y),
                None => Ok(y),
            }
        };
        Some(run().map(|y| vec![y]))
    }

    fn keep(&self, wanted: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep { inputs: [0, 1].into_iter().filter(|&i| wanted[1 - i]).collect(), outputs: Vec::new() }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let gradient = at.gradient()?;
        let product = |x: &Tensor, weight: &Tensor| gemm(Gemm { alpha: self.alpha, function: None }, x, weight, None, None);
        // y = x·Wᵀ: dx = g·W, and a weight `[N, K]` is read as `[K, N]`.
        let dx = || {
            let weight = at.input(1)?;
            if weight.prepared().is_some() {
                return Err(Error::invalid("gemm", "no gradient passes a weight that was prepared for inference"));
            }
            product(gradient, &weight.transpose()?)
        };
        // dW = gᵀ·x, over all rows of a batch where they share the weight.
        let dweight = || {
            let x = at.input(0)?;
            let [gradient, x] =
                if at.operand(1)?.shape.rank() == 2 { [rows(gradient)?, rows(x)?] } else { [gradient.clone(), x.clone()] };
            product(&gradient.transpose()?, &x.transpose()?)
        };
        Ok(vec![
            at.if_wanted(0, dx)?,
            at.if_wanted(1, dweight)?,
            at.if_wanted(2, || sum_rows(gradient))?,
            at.if_wanted(3, || Ok(gradient.clone()))?,
        ])
    }
}

/// `[…, M, K]` as one matrix of rows, a view where that is possible.
fn rows(x: &Tensor) -> Result<Tensor> {
    let width = x.shape()[x.rank() - 1];
    let shape = [x.shape()[..x.rank() - 1].iter().product(), width];
    x.reshape(&shape).or_else(|_| x.contiguous()?.reshape(&shape))
}
