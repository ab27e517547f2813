//! From what was normalised, which with a residual is the second result.

use tubelet_engine::{
    Result, Tensor,
    ops::{binary::add, layer_norm::LayerNorm, layer_norm_backward::layer_norm_backward},
};

use super::{At, Keep, Rule};

impl Rule for LayerNorm {
    fn differentiable(&self, inputs: &[Option<&Tensor>]) -> usize {
        if has_residual(inputs) { 2 } else { 1 }
    }

    fn cheap(&self, inputs: &[Option<&Tensor>]) -> bool {
        !has_residual(inputs)
    }

    fn keep(&self, _: &[bool], inputs: &[Option<&Tensor>]) -> Keep {
        if has_residual(inputs) {
            Keep { inputs: vec![1], outputs: vec![1] }
        } else {
            Keep { inputs: vec![0, 1], outputs: Vec::new() }
        }
    }

    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        // What arrives at the sum goes to both of its terms.
        let Some(gradient) = at.arrived(0) else {
            return Ok(vec![at.arrived(1).cloned(), None, None, at.arrived(1).cloned()]);
        };
        let x = at.optional(0).map_or_else(|| at.output(1), Ok)?;
        let [mut dx, dweight, dbias] = layer_norm_backward(self.eps, x, at.optional(1), gradient)?;
        if let Some(more) = at.arrived(1) {
            dx = add(&dx, more)?;
        }
        Ok(vec![Some(dx.clone()), Some(dweight), Some(dbias), Some(dx)])
    }
}

fn has_residual(inputs: &[Option<&Tensor>]) -> bool {
    inputs.get(3).is_some_and(Option::is_some)
}
