//! Layer normalisation in front of a matrix product: two launches, with what is normalised between them.

use tubelet_engine::{Result, Tensor, ops::layer_norm_gemm::LayerNormGemm};

use crate::{
    backend::{CudaBackend, operand},
    gemm, layer_norm,
};

pub(crate) fn run(cuda: &CudaBackend, op: &LayerNormGemm, inputs: &[Option<&Tensor>], outputs: &[Tensor]) -> Result<()> {
    let x = operand("layer_norm_gemm", inputs, 0)?;
    let ([_, others @ ..], [scale, shift]) = LayerNormGemm::operands(inputs) else { return Ok(()) };
    let normed = [Tensor::empty(x.device(), x.dtype(), x.shape())?];
    // Of rows of nothing a product is 0 and a bias.
    if x.elements() > 0 {
        layer_norm::run(cuda, &op.layer_norm(), &[Some(x), scale, shift], &normed)?;
    }
    gemm::run(cuda, &op.gemm(), &[&[Some(&normed[0])], others].concat(), outputs)
}
