use std::fmt;

/// A function of one number: what [`crate::ops::unary`] applies, and what a gemm's epilogue can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x/2 · (1 + erf(x/√2))`: PyTorch's default, timm, torchvision.
    GeluErf,
    /// `x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))`: Flax's default, ViViT.
    GeluTanh,
    /// `x · σ(1.702·x)`: CLIP, UniFormerV2.
    GeluQuick,
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x · σ(x)`.
    Silu,
    /// `eˣ`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `−x`.
    Neg,
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 11] = [
        Function::Relu,
        Function::GeluErf,
        Function::GeluTanh,
        Function::GeluQuick,
        Function::Sigmoid,
        Function::Tanh,
        Function::Silu,
        Function::Exp,
        Function::Log,
        Function::Sqrt,
        Function::Neg,
    ];

    /// The name in tables and configuration files.
    pub const fn name(self) -> &'static str {
        match self {
            Function::Relu => "relu",
            Function::GeluErf => "gelu_erf",
            Function::GeluTanh => "gelu_tanh",
            Function::GeluQuick => "gelu_quick",
            Function::Sigmoid => "sigmoid",
            Function::Tanh => "tanh",
            Function::Silu => "silu",
            Function::Exp => "exp",
            Function::Log => "log",
            Function::Sqrt => "sqrt",
            Function::Neg => "neg",
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
