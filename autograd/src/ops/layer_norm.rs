//! From what was normalised, which with a residual is the second result.

use tubelet_engine::{
    Result, Tensor,
    ops::{binary::add, layer_norm::LayerNorm, layer_norm_backward::layer_norm_backward},
};

use super::{At, Keep, Rule};

impl Rule for LayerNorm {
    fn differentiable(&self, inputs: &[Option<&Tensor>]) -> usize {
        if inputs.len() > 3 && inputs[3].is_some() { 2 } else { 1 }
    }

    fn keep(&self, wanted: &[bool]) -> Keep {
        // Without a residual there is no second result to keep, and with one the first operand is not needed.
        if wanted.len() > 3 {
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
