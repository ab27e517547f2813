//! Layer normalisation in front of a matrix product: what the linear layers of a pre-norm block are.

use super::{
    Function, Operation, Spec, check,
    gemm::{self, Gemm},
    layer_norm::LayerNorm,
    run_one,
};
use crate::{Operand, Result, Tensor};

/// `y = residual + f(norm(x)·Wᵀ + bias)`, `norm(x) = (x − mean(x)) / √(var(x) + eps) · scale + shift` over the last dimension.
///
/// | operand | shape | |
/// |---|---|---|
/// | `x` | `[…, M, K]` | any strides |
/// | `weight` | `[N, K]` | any strides, or prepared as [`Operand::GemmWeight`] |
/// | `bias` | `[N]` | optional |
/// | `residual` | `[…, M, N]` | optional, any strides |
/// | `scale`, `shift` | `[K]` | optional |
/// | result | `[…, M, N]` | element type of `x` |
///
/// As [`LayerNorm`] and [`Gemm`] one after the other, except that what is normalised need not be stored; in half types a device
/// may round it or not. A row with a NaN or an infinity is NaN once normalised; of rows of nothing (K = 0) the product is 0. Recorded, it is the two. In ViT: what makes
/// queries, keys and values, and the first layer of the MLP (equations 2 and 3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormGemm {
    /// Added to the variance: 1e-6 in ViT, 1e-5 in CLIP.
    pub eps: f32,
    /// Applied after the bias.
    pub function: Option<Function>,
}

impl LayerNormGemm {
    /// The normalisation by itself.
    pub fn layer_norm(&self) -> LayerNorm {
        LayerNorm { eps: self.eps }
    }

    /// The product by itself.
    pub fn gemm(&self) -> Gemm {
        Gemm { function: self.function, ..Gemm::default() }
    }

    /// The operands of the product, with `x` for what is normalised, and `[scale, shift]`.
    pub fn operands<'a, 't>(inputs: &'a [Option<&'t Tensor>]) -> (&'a [Option<&'t Tensor>], [Option<&'t Tensor>; 2]) {
        (&inputs[..inputs.len().min(4)], [4, 5].map(|i| inputs.get(i).copied().flatten()))
    }
}

impl Operation for LayerNormGemm {
    const NAME: &'static str = "layer_norm_gemm";
    const PREPARED: Option<(usize, Operand)> = Some((1, Operand::GemmWeight));

    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
        let op = Self::NAME;
        check::at_most(op, inputs, 6)?;
        check::rank(op, check::need(op, inputs, 1, "weight")?, "weight", 2, "[N, K]")?;
        let (product, parameters) = Self::operands(inputs);
        let out = gemm::infer(op, product)?;
        let x = check::need(op, inputs, 0, "x")?;
        for (p, name) in parameters.into_iter().zip(["scale", "shift"]) {
            if let Some(p) = p {
                check::dtype(op, p, name, x.dtype())?;
                check::shape(op, p, name, &[x.shape()[x.rank() - 1]])?;
            }
        }
        Ok(out)
    }

    fn flops(&self, inputs: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128) {
        let (flops, minor) = self.gemm().flops(Self::operands(inputs).0, outputs);
        (flops, minor + 7 * inputs[0].map_or(0, Tensor::elements) as u128)
    }
}

/// With the parameters `[scale, shift]` of the norm; see [`LayerNormGemm`].
pub fn layer_norm_gemm(
    op: LayerNormGemm,
    x: &Tensor,
    [scale, shift]: [Option<&Tensor>; 2],
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    run_one(op, &[Some(x), Some(weight), bias, residual, scale, shift])
}
