//! What is added to the layers of the image model: local blocks, which mix time, and position encodings.

use tubelet_engine::{
    Function, Operand, Result, Tensor,
    ops::{
        binary::{Operator, add, binary, mul},
        conv3d::{Conv3d, conv3d},
        conv3d_depthwise::{Conv3dDepthwise, conv3d_depthwise},
        gemm::linear,
        unary::unary,
    },
};

use super::{EPS, LocalKind, UniformerV2Config};
use crate::{
    Pass,
    attention::SelfAttention,
    layers::{LayerNorm, Linear},
    params::{Init, Params},
};

/// Dynamic position encoding: a depthwise convolution over 3×3×3 patches (equation 8).
pub(super) struct Dpe {
    weight: Tensor,
    bias: Tensor,
}

impl Dpe {
    /// `{name}.dpe.dw`, if it is wanted.
    pub fn load(params: &mut Params<'_>, name: &str, width: usize, wanted: bool) -> Result<Option<Self>> {
        if !wanted {
            return Ok(None);
        }
        let weight = params.tensor(&format!("{name}.dpe.dw.weight"), &[3, 3, 3, width], Init::Xavier)?;
        Ok(Some(Dpe { weight, bias: params.tensor(&format!("{name}.dpe.dw.bias"), &[width], Init::Zeros)? }))
    }

    /// `residual + dpe(x)` for `x [B, T, H, W, C]`.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        conv3d_depthwise(Conv3dDepthwise { padding: [1; 3] }, x, &self.weight, Some(&self.bias), residual)
    }
}

/// A local block: a branch that mixes time at each place.
pub(super) struct Local {
    /// Added to what the branch reads, and to the stream.
    pub dpe: Option<Dpe>,
    branch: Branch,
}

/// The designs of table 2a.
#[allow(clippy::large_enum_variant, reason = "a model has some dozens of them, in vectors")]
enum Branch {
    Bottleneck(Bottleneck),
    /// Layer norm and attention over all time steps.
    Attention(LayerNorm, SelfAttention),
    /// Batch norm and a convolution over three time steps, weight `[C, 3, 1, 1, C]` and bias.
    Convolution(BatchNorm, Tensor, Tensor),
}

impl Local {
    /// `{name}.norm` and whatever the design has.
    pub fn load(params: &mut Params<'_>, name: &str, config: &UniformerV2Config) -> Result<Self> {
        let c = config.width;
        let dpe = Dpe::load(params, name, c, config.local_dpe)?;
        let branch = match config.local_kind {
            LocalKind::Mhra | LocalKind::StAdapter => Branch::Bottleneck(Bottleneck::load(params, name, config)?),
            LocalKind::TemporalAttention => Branch::Attention(
                LayerNorm::load(params, &format!("{name}.norm"), c, EPS)?,
                SelfAttention::load(params, &format!("{name}.attn"), c, config.heads, true)?,
            ),
            LocalKind::TemporalConvolution => {
                let norm = BatchNorm::load(params, &format!("{name}.norm"), c)?;
                let weight = format!("{name}.conv.weight");
                let weight = params.prepared(&weight, &[c, 3, 1, 1, c], Init::Xavier, Operand::Conv3dWeight)?;
                Branch::Convolution(norm, weight, params.tensor(&format!("{name}.conv.bias"), &[c], Init::Zeros)?)
            }
        };
        Ok(Local { dpe, branch })
    }

    /// `residual + branch(x)` for `x [B, T, H, W, C]`.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, pass: &mut Pass) -> Result<Tensor> {
        match &self.branch {
            Branch::Bottleneck(bottleneck) => bottleneck.forward(x, residual, pass),
            Branch::Attention(norm, attention) => {
                let s = *x.shape();
                let grid = |x: &Tensor| x.reshape(&[s[0], s[1], s[2] * s[3], s[4]]);
                let residual = residual.map(|residual| grid(&residual.contiguous()?)).transpose()?;
                // What is followed is the backbone alone, as with the other designs.
                attention.forward_aside(norm.of(&grid(&x.contiguous()?)?), 1, residual.as_ref(), pass)?.reshape(&s)
            }
            Branch::Convolution(norm, weight, bias) => {
                let op = Conv3d { padding: [1, 0, 0], ..Conv3d::new([1; 3]) };
                let y = conv3d(op, &norm.forward(x, pass)?, weight, Some(bias), None)?;
                residual.map_or(Ok(y.clone()), |residual| add(residual, &y))
            }
        }
    }
}

/// Local temporal MHRA: batch norm, a linear layer down, a depthwise convolution over three time steps, a linear layer up (equation 4); or the
/// ST-Adapter that it is compared with, which has an activation after the convolution and no norm.
struct Bottleneck {
    /// Absent where it is folded into `reduce`, and in an ST-Adapter.
    norm: Option<BatchNorm>,
    reduce: Linear,
    weight: Tensor,
    bias: Tensor,
    function: Option<Function>,
    expand: Linear,
}

impl Bottleneck {
    fn load(params: &mut Params<'_>, name: &str, config: &UniformerV2Config) -> Result<Self> {
        let (width, reduced) = (config.width, config.local_width());
        let (norm, reduce, function) = match config.local_kind {
            LocalKind::StAdapter => {
                let reduce = Linear::load(params, &format!("{name}.reduce"), width, reduced, true)?;
                (None, reduce, Some(Function::GeluErf))
            }
            _ => {
                let (norm, reduce) = Bottleneck::load_normed(params, name, width, reduced)?;
                (norm, reduce, None)
            }
        };
        Ok(Bottleneck {
            norm,
            reduce,
            weight: params.tensor(&format!("{name}.dw.weight"), &[3, 1, 1, reduced], Init::Xavier)?,
            bias: params.tensor(&format!("{name}.dw.bias"), &[reduced], Init::Zeros)?,
            function,
            expand: Linear::load(params, &format!("{name}.expand"), reduced, width, true)?,
        })
    }

    /// The batch norm and the linear layer down, or the one that both are.
    fn load_normed(params: &mut Params<'_>, name: &str, width: usize, reduced: usize) -> Result<(Option<BatchNorm>, Linear)> {
        let norm = BatchNorm::load(params, &format!("{name}.norm"), width)?;
        let weight = params.tensor(&format!("{name}.reduce.weight"), &[reduced, width], Init::Xavier)?;
        let bias = params.tensor(&format!("{name}.reduce.bias"), &[reduced], Init::Zeros)?;
        Ok(if params.folds_batch_norms() {
            (None, norm.folded(&weight, &bias)?)
        } else {
            (Some(norm), Linear::new(&weight, Some(bias))?)
        })
    }

    /// `residual + branch(x)` for `x [B, T, H, W, C]`.
    fn forward(&self, x: &Tensor, residual: Option<&Tensor>, pass: &mut Pass) -> Result<Tensor> {
        let op = Conv3dDepthwise { padding: [1, 0, 0] };
        let reduced = match &self.norm {
            Some(norm) => self.reduce.forward(&norm.forward(x, pass)?)?,
            None => self.reduce.forward(x)?,
        };
        let mixed = conv3d_depthwise(op, &reduced, &self.weight, Some(&self.bias), None)?;
        let mixed = self.function.map_or(Ok(mixed.clone()), |function| unary(function, &mixed))?;
        self.expand.apply(&mixed, None, residual)
    }
}

/// Batch norm with running statistics, each `[C]`.
struct BatchNorm {
    name: String,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
}

impl BatchNorm {
    /// `{name}.weight`, `.bias`, `.mean`, `.var`.
    fn load(params: &mut Params<'_>, name: &str, width: usize) -> Result<Self> {
        let [gamma, beta] = [("weight", Init::Ones), ("bias", Init::Zeros)]
            .map(|(part, init)| params.tensor(&format!("{name}.{part}"), &[width], init));
        let [mean, var] = [("mean", Init::Zeros), ("var", Init::Ones)]
            .map(|(part, init)| params.buffer(&format!("{name}.{part}"), &[width], init));
        Ok(BatchNorm { name: name.to_owned(), gamma: gamma?, beta: beta?, mean: mean?, var: var? })
    }

    fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        pass.batch_norm(&self.name, EPS, x, [&self.gamma, &self.beta], [&self.mean, &self.var])
    }

    /// The norm and a linear layer as one: `W(γ·(x − μ)/σ + β) + b = (W·γ/σ)x + (W(β − μγ/σ) + b)`, exactly.
    fn folded(&self, weight: &Tensor, bias: &Tensor) -> Result<Linear> {
        let eps = Tensor::full(self.var.device(), self.var.dtype(), &[1], EPS)?;
        let scale = binary(Operator::Div, &self.gamma, &unary(Function::Sqrt, &add(&self.var, &eps)?)?)?;
        let shift = binary(Operator::Sub, &self.beta, &mul(&self.mean, &scale)?)?;
        let shift = shift.reshape(&[1, shift.elements()])?;
        let bias = linear(&shift, weight, Some(bias))?.reshape(bias.shape())?;
        Linear::new(&mul(weight, &scale)?, Some(bias))
    }
}
