//! The pieces that the four systems share: linear layers, norms, MLPs, the pre-norm block.

use tubelet_engine::{
    Function, Operand, Result, Tensor,
    ops::{
        binary::mul,
        gemm::{Gemm, gemm},
        layer_norm::layer_norm,
        layer_norm_gemm::{LayerNormGemm, layer_norm_gemm},
    },
};

use crate::{
    Depth, Pass, Regularisation,
    attention::{RelativePositions, SelfAttention},
    params::{Init, Params},
};

/// What linear layers read, `[…, C]`: tokens as they are, or normalised on the way, so that nobody stores them.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    x: &'a Tensor,
    norm: Option<&'a LayerNorm>,
}

impl<'a> Tokens<'a> {
    /// Before they are normalised.
    pub fn plain(self) -> &'a Tensor {
        self.x
    }

    /// Others in the place of these.
    pub fn with(self, x: &'a Tensor) -> Self {
        Tokens { x, ..self }
    }
}

impl<'a> From<&'a Tensor> for Tokens<'a> {
    fn from(x: &'a Tensor) -> Self {
        Tokens { x, norm: None }
    }
}

/// `y = x·Wᵀ + b`, the weight prepared once.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `{name}.weight [outputs, inputs]` and, if `bias`, `{name}.bias [outputs]`.
    pub fn load(params: &mut Params<'_>, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        Linear::load_with(params, name, inputs, outputs, bias, Init::Xavier)
    }

    /// As [`Linear::load`], its weight initialised as `init` says.
    pub fn load_with(params: &mut Params<'_>, name: &str, inputs: usize, outputs: usize, bias: bool, init: Init) -> Result<Self> {
        let weight = params.prepared(&format!("{name}.weight"), &[outputs, inputs], init, Operand::GemmWeight)?;
        let bias = if bias { Some(params.tensor(&format!("{name}.bias"), &[outputs], Init::Zeros)?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// As [`Linear::load`] with a bias, its outputs multiplied by `gamma [outputs]`, if there is one: LayerScale, folded into weight and bias.
    pub(crate) fn load_scaled(
        params: &mut Params<'_>,
        name: &str,
        inputs: usize,
        outputs: usize,
        gamma: Option<&Tensor>,
    ) -> Result<Self> {
        let Some(gamma) = gamma else { return Linear::load(params, name, inputs, outputs, true) };
        let weight = params.tensor(&format!("{name}.weight"), &[outputs, inputs], Init::Xavier)?;
        let bias = params.tensor(&format!("{name}.bias"), &[outputs], Init::Zeros)?;
        Linear::new(&mul(&weight, &gamma.reshape(&[outputs, 1])?)?, Some(mul(&bias, gamma)?))
    }

    /// From parts of what `params` has handed out, prepared as whole parameters are.
    pub(crate) fn from_parameters(params: &Params<'_>, weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        Ok(Linear { weight: params.prepare(weight, Operand::GemmWeight)?, bias })
    }

    /// From tensors: `weight [outputs, inputs]`, `bias [outputs]`.
    pub fn new(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        Ok(Linear { weight: weight.prepare(Operand::GemmWeight)?, bias })
    }

    /// `[…, inputs]` to `[…, outputs]`.
    pub fn forward<'a>(&self, x: impl Into<Tokens<'a>>) -> Result<Tensor> {
        self.apply(x, None, None)
    }

    /// `residual + f(x·Wᵀ + b)`, in one kernel, with the norm of `x` where it is to be normalised.
    pub fn apply<'a>(&self, x: impl Into<Tokens<'a>>, function: Option<Function>, residual: Option<&Tensor>) -> Result<Tensor> {
        let (Tokens { x, norm }, weight, bias) = (x.into(), &self.weight, self.bias.as_ref());
        let Some(LayerNorm { weight: scale, bias: shift, eps }) = norm else {
            return gemm(Gemm { function, ..Gemm::default() }, x, weight, bias, residual);
        };
        layer_norm_gemm(LayerNormGemm { eps: *eps, function }, x, [Some(scale), Some(shift)], weight, bias, residual)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// `{name}.weight [width]`, `{name}.bias [width]`.
    pub fn load(params: &mut Params<'_>, name: &str, width: usize, eps: f32) -> Result<Self> {
        let weight = params.tensor(&format!("{name}.weight"), &[width], Init::Ones)?;
        let bias = params.tensor(&format!("{name}.bias"), &[width], Init::Zeros)?;
        Ok(LayerNorm { weight, bias, eps })
    }

    /// `x [..., width]` for linear layers that are to read it normalised.
    pub fn of<'a>(&'a self, x: &'a Tensor) -> Tokens<'a> {
        Tokens { x, norm: Some(self) }
    }

    /// `[…, width]` to the same.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(self.eps, x, Some(&self.weight), Some(&self.bias))
    }
}

/// `W₂·f(W₁·x + b₁) + b₂`.
#[derive(Clone, Debug)]
pub struct Mlp {
    up: Linear,
    down: Linear,
    function: Function,
}

impl Mlp {
    /// `{name}.fc1` and `{name}.fc2`.
    pub fn load(params: &mut Params<'_>, name: &str, width: usize, hidden: usize, function: Function) -> Result<Self> {
        Mlp::load_with(params, name, width, hidden, function, Init::Xavier)
    }

    /// As [`Mlp::load`], the last weight initialised as `last` says.
    pub fn load_with(
        params: &mut Params<'_>,
        name: &str,
        width: usize,
        hidden: usize,
        function: Function,
        last: Init,
    ) -> Result<Self> {
        let up = Linear::load(params, &format!("{name}.fc1"), width, hidden, true)?;
        let down = Linear::load_with(params, &format!("{name}.fc2"), hidden, width, true, last)?;
        Ok(Mlp { up, down, function })
    }

    /// `residual + mlp(x)`.
    pub fn forward<'a>(&self, x: impl Into<Tokens<'a>>, residual: Option<&Tensor>, pass: &mut Pass) -> Result<Tensor> {
        self.forward_dropping(|r| r.dropout, x, residual, pass)
    }

    /// As [`Mlp::forward`] where another part of the hidden values is dropped: UniFormerV2's global blocks.
    pub fn forward_dropping<'a>(
        &self,
        probability: fn(&Regularisation) -> f32,
        x: impl Into<Tokens<'a>>,
        residual: Option<&Tensor>,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let hidden = pass.dropout(probability, &self.up.apply(x, Some(self.function), None)?)?;
        self.down.apply(&hidden, None, residual)
    }
}

/// What distinguishes one pre-norm block from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockConfig {
    /// Token width C.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    /// Epsilon of the norms: 1e-6 in ViT, 1e-5 in CLIP.
    pub eps: f32,
    /// Activation of the MLP.
    pub function: Function,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether what attention and MLP add is multiplied, channel by channel, by a learned scale: DeiT III.
    pub layer_scale: bool,
}

/// The pre-norm block of a vision transformer: `x += attention(norm1(x))`, `x += mlp(norm2(x))` (ViT, equations 2 and 3).
#[derive(Clone, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    last: bool,
}

impl Block {
    /// `{name}.norm1`, `{name}.attn`, `{name}.norm2`, `{name}.mlp`, and `{name}.ls1.gamma` and `{name}.ls2.gamma` of LayerScale: timm's names.
    pub fn load(params: &mut Params<'_>, name: &str, config: &BlockConfig) -> Result<Self> {
        Block::load_with(params, name, config, None, false)
    }

    /// As [`Block::load`]; attention adds a learned bias for each of the `relative` positions of two tokens to their score. Of what a `last`
    /// block gives the first token of each line along axis 2 is read, and no other.
    pub fn load_with(
        params: &mut Params<'_>,
        name: &str,
        config: &BlockConfig,
        relative: Option<&RelativePositions>,
        last: bool,
    ) -> Result<Self> {
        let BlockConfig { width, heads, hidden, eps, function, qkv_bias, layer_scale } = *config;
        let mut gamma =
            |n: usize| layer_scale.then(|| params.tensor(&format!("{name}.ls{n}.gamma"), &[width], Init::Ones)).transpose();
        let (gamma1, gamma2) = (gamma(1)?, gamma(2)?);
        let attention = format!("{name}.attn");
        let bias = relative.map(|relative| relative.load(params, &attention, heads)).transpose()?;
        let size = [width, heads];
        let attention = SelfAttention::load_with(params, &attention, size, qkv_bias, gamma1.as_ref(), last)?.with_bias(bias);
        let mlp = Mlp {
            up: Linear::load(params, &format!("{name}.mlp.fc1"), width, hidden, true)?,
            down: Linear::load_scaled(params, &format!("{name}.mlp.fc2"), hidden, width, gamma2.as_ref())?,
            function,
        };
        let norm1 = LayerNorm::load(params, &format!("{name}.norm1"), width, eps)?;
        let norm2 = LayerNorm::load(params, &format!("{name}.norm2"), width, eps)?;
        Ok(Block { norm1, attention, norm2, mlp, last })
    }

    /// What attention adds to `x`, for those who watch.
    pub fn attend(&self, x: &Tensor, axis: usize) -> Result<Tensor> {
        self.attention.forward(self.norm1.of(x), axis, None, &mut Pass::inference())
    }

    /// `x + attention(norm1(x))` for `x [B, X, Y, C]`, attending along `axis`.
    pub fn mix(&self, x: &Tensor, axis: usize, depth: Depth, pass: &mut Pass) -> Result<Tensor> {
        pass.branch(x, depth, |pass, residual| self.attention.forward(self.norm1.of(x), axis, residual, pass))
    }

    /// `x + mlp(norm2(x))`.
    pub fn refine(&self, x: &Tensor, depth: Depth, pass: &mut Pass) -> Result<Tensor> {
        pass.branch(x, depth, |pass, residual| self.mlp.forward(self.norm2.of(x), residual, pass))
    }

    /// Both: `[B, X, Y, C]` to the same, attending along `axis`. A last block gives `[B, X, 1, C]`, unless the pass [wants](Pass::wants_all) all
    /// tokens: of the others only keys and values are computed, a sixth of a block.
    pub fn forward(&self, x: &Tensor, axis: usize, depth: Depth, pass: &mut Pass) -> Result<Tensor> {
        if !self.last || axis != 2 || pass.wants_all() {
            return self.refine(&self.mix(x, axis, depth, pass)?, depth, pass);
        }
        let (normed, first) = (self.norm1.of(x), x.narrow(2, 0, 1)?);
        let mixed = pass.branch(&first, depth, |pass, residual| self.attention.forward_first(normed, residual, pass))?;
        self.refine(&mixed, depth, pass)
    }
}
