//! `residual + f(norm(x)·Wᵀ + bias)`: one after the other.

use super::{Array, gemm, layer_norm};
use crate::{Result, ops::layer_norm_gemm::LayerNormGemm};

pub fn run(op: &LayerNormGemm, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let operand = |i: usize| inputs.get(i).cloned().flatten();
    let normed = layer_norm::run(&op.layer_norm(), &[operand(0), operand(4), operand(5)])?;
    gemm::run(&op.gemm(), &[normed.into_iter().next(), operand(1), operand(2), operand(3)])
}
