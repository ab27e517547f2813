//! Layer normalisation in front of a matrix product: two dispatches, with what is normalised between them.

use tubelet_engine::{Backend, Op, Result, Tensor, ops::layer_norm_gemm::LayerNormGemm};

use crate::{device::Wgpu, gemm, kernel::operand};

pub fn run(op: &LayerNormGemm, inputs: &[Option<&Tensor>], outputs: &[Tensor], gpu: &Wgpu) -> Result<()> {
    let x = operand(inputs, 0)?;
    let ([_, others @ ..], [scale, shift]) = LayerNormGemm::operands(inputs) else { return Ok(()) };
    let normed = [Tensor::empty(x.device(), x.dtype(), x.shape())?];
    // As an operation of its own: it clears memory where two halves share a word, and leaves rows of nothing alone.
    gpu.run(&Op::LayerNorm(op.layer_norm()), &[Some(x), scale, shift], &normed)?;
    gemm::run(&op.gemm(), &[&[Some(&normed[0])], others].concat(), outputs, gpu)
}
