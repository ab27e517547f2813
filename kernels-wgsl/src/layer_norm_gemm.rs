//! Layer normalisation in front of a matrix product: two dispatches, with what is normalised between them.

use tubelet_engine::{Result, Tensor, ops::layer_norm_gemm::LayerNormGemm};

use crate::{device::Wgpu, gemm, kernel::operand, layer_norm};

pub fn run(op: &LayerNormGemm, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let ([_, others @ ..], [scale, shift]) = LayerNormGemm::operands(inputs) else { return Ok(()) };
    let normed = [Tensor::empty(x.device(), x.dtype(), x.shape())?];
    // Of rows of nothing a product is 0 and a bias.
    if x.elements() > 0 {
        layer_norm::run(&op.layer_norm(), &[Some(x), scale, shift], &normed, gpu)?;
    }
    gemm::run(&op.gemm(), &[&[Some(&normed[0])], others].concat(), outputs, gpu)
}
