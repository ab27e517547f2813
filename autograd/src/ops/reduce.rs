//! The gradient repeated along what was reduced, of squares times twice the operand; of equal maxima each gets it whole.

use tubelet_engine::{
    Function, Result, Tensor,
    ops::{
        binary::{Operator, binary, mul},
        reduce::{Reduce, Reduction},
        unary_backward::unary_backward,
    },
};

use super::{At, Keep, Rule};

impl Rule for Reduce {
    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        match self.reduction {
            Reduction::Sum | Reduction::Mean => Keep::default(),
            Reduction::Squares => Keep { inputs: vec![0], outputs: vec![] },
            Reduction::Max => Keep { inputs: vec![0], outputs: vec![0] },
        }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        let shape = &at.operand(0)?.shape;
        let mut kept = shape.to_vec();
        self.axes.iter().for_each(|&axis| kept[axis] = 1);
        let spread = |x: &Tensor| x.contiguous()?.reshape(&kept)?.broadcast_to(shape);
        let gradient = at.gradient()?;
        let dx = match self.reduction {
            Reduction::Sum => spread(gradient)?,
            Reduction::Mean => {
                let count: usize = self.axes.iter().map(|&axis| shape[axis]).product();
                let share = Tensor::full(gradient.device(), gradient.dtype(), &[], 1.0 / count as f32)?;
                spread(&mul(gradient, &share)?)?
            }
            Reduction::Squares => {
                let twice = Tensor::full(gradient.device(), gradient.dtype(), &[], 2.0)?;
                mul(at.input(0)?, &spread(&mul(gradient, &twice)?)?)?
            }
            Reduction::Max => {
                let below = binary(Operator::Sub, &spread(at.output(0)?)?, at.input(0)?)?;
                let gradient = spread(gradient)?;
                binary(Operator::Sub, &gradient, &unary_backward(Function::Relu, &below, &gradient)?)?
            }
        };
        Ok(vec![Some(dx)])
    }
}
