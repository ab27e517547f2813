//! Recorded as the norm and the product that it is: their rules are its rule, and what is normalised is computed again in the backward pass.

use tubelet_engine::{
    Error, Result, Tensor,
    ops::{gemm::gemm, layer_norm::layer_norm, layer_norm_gemm::LayerNormGemm},
};

use super::{At, Keep, Rule};

impl Rule for LayerNormGemm {
    fn lower(&self, inputs: &[Option<&Tensor>]) -> Option<Result<Vec<Tensor>>> {
        let (product, [scale, shift]) = LayerNormGemm::operands(inputs);
        let operand = |i: usize| product.get(i).copied().flatten();
        let (x, weight) = (operand(0)?, operand(1)?);
        let normed = layer_norm(self.eps, x, scale, shift);
        Some(normed.and_then(|x| gemm(self.gemm(), &x, weight, operand(2), operand(3))).map(|y| vec![y]))
    }

    fn keep(&self, _: &[bool], _: &[Option<&Tensor>]) -> Keep {
        Keep::default()
    }

    fn backward(&self, _: &At<'_>) -> Result<Vec<Option<Tensor>>> {
        Err(Error::invalid("layer_norm_gemm", "is recorded as layer_norm and gemm"))
    }
}
