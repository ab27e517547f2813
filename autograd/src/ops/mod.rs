//! Backward rules: one file for each operation, with what to keep from the forward pass and how to go back.

mod attention;
mod attention_topk_std;
mod batch_norm;
mod binary;
mod binary_cross_entropy;
mod concat;
mod conv3d;
mod conv3d_depthwise;
mod copy;
mod cross_entropy;
mod dropout;
mod gather;
mod gemm;
mod interpolate;
mod layer_norm;
mod layer_norm_gemm;
mod reduce;
mod resize;
mod softmax;
mod unary;

use tubelet_engine::{
    Error, Op, Result, Spec, Tensor,
    ops::{
        Operation,
        reduce::{Reduction, reduce},
    },
};

use crate::graph::{Saved, Step};

/// What to keep of the forward pass, by position.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

/// The backward rule of an operation.
pub(crate) trait Rule: Operation + Clone {
    /// The operation recorded as several others, if its rule is a chain of theirs.
    fn lower(&self, _inputs: &[Option<&Tensor>]) -> Option<Result<Vec<Tensor>>> {
        None
    }
    /// What to run instead while recording: the same results, and behind them others that the rule needs.
    fn recorded(&self) -> Self {
        self.clone()
    }
    /// Whether the first result is cheaper to compute again in the backward pass than to keep for the operations that read it.
    fn cheap(&self, _inputs: &[Option<&Tensor>]) -> bool {
        false
    }
    /// The number of results, from the first on, that have gradients.
    fn differentiable(&self, _inputs: &[Option<&Tensor>]) -> usize {
        1
    }
    /// What to keep where gradients are wanted for these operands.
    fn keep(&self, wanted: &[bool], inputs: &[Option<&Tensor>]) -> Keep;
    /// The gradient of each operand that one is wanted for.
    fn backward(&self, at: &At<'_>) -> Result<Vec<Option<Tensor>>>;
}

/// What a rule sees: the kept tensors, and the gradients that arrived.
pub(crate) struct At<'a> {
    step: &'a Step,
    saved: &'a Saved,
    gradients: &'a [Option<Tensor>],
}

impl At<'_> {
    /// Whether a gradient is wanted for operand `i`.
    pub fn wants(&self, i: usize) -> bool {
        self.step.parents.get(i).is_some_and(Option::is_some)
    }

    /// `f()` if a gradient is wanted for operand `i`.
    pub fn if_wanted(&self, i: usize, f: impl FnOnce() -> Result<Tensor>) -> Result<Option<Tensor>> {
        self.wants(i).then(f).transpose()
    }

    /// Operand `i`, if it was there and kept.
    pub fn optional(&self, i: usize) -> Option<&Tensor> {
        self.saved.inputs.get(i).and_then(Option::as_ref)
    }

    /// Operand `i`, which was kept.
    pub fn input(&self, i: usize) -> Result<&Tensor> {
        self.optional(i).ok_or_else(|| Error::invalid(self.step.name(), format!("operand {i} was not kept")))
    }

    /// Result `i`, which was kept.
    pub fn output(&self, i: usize) -> Result<&Tensor> {
        let kept = self.saved.outputs.get(i).and_then(Option::as_ref);
        kept.ok_or_else(|| Error::invalid(self.step.name(), format!("result {i} was not kept")))
    }

    /// The gradient of result `i`, if one arrived.
    pub fn arrived(&self, i: usize) -> Option<&Tensor> {
        self.gradients.get(i).and_then(Option::as_ref)
    }

    /// The gradient of the first result.
    pub fn gradient(&self) -> Result<&Tensor> {
        self.arrived(0).ok_or_else(|| Error::invalid(self.step.name(), "no gradient arrived"))
    }

    /// Shape and type of operand `i`.
    pub fn operand(&self, i: usize) -> Result<&Spec> {
        let operand = self.step.operands.get(i).and_then(Option::as_ref);
        operand.ok_or_else(|| Error::invalid(self.step.name(), format!("there is no operand {i}")))
    }

    /// The number of operands.
    pub fn operands(&self) -> usize {
        self.step.operands.len()
    }
}

/// The sum of `gradient` over all but its last dimension: that of a bias.
fn sum_rows(gradient: &Tensor) -> Result<Tensor> {
    reduce(Reduction::Sum, gradient, &(0..gradient.rank() - 1).collect::<Vec<_>>())
}

/// What to run, what of it to keep, and how many of its results have gradients.
pub(crate) struct Plan {
    pub op: Op,
    pub keep: Keep,
    pub cheap: bool,
    pub differentiable: usize,
}

macro_rules! rules {
    ($(($variant:ident, $module:ident)),*) => {
        /// Whether the operation of this name can be recorded.
        pub fn has_rule(name: &str) -> bool {
            [$(<tubelet_engine::ops::$module::$variant as Operation>::NAME),*].contains(&name)
        }

        /// See [`Rule::lower`].
        pub(crate) fn lower(op: &Op, inputs: &[Option<&Tensor>]) -> Option<Result<Vec<Tensor>>> {
            match op {
                $(Op::$variant(op) => op.lower(inputs),)*
                _ => None,
            }
        }

        /// How to record an operation.
        ///
        /// # Errors
        /// If it has no rule: better no result than one whose gradient is silently lost.
        pub(crate) fn plan(op: &Op, wanted: &[bool], inputs: &[Option<&Tensor>]) -> Result<Plan> {
            match op {
                $(Op::$variant(op) => Ok(Plan {
                    keep: op.keep(wanted, inputs),
                    cheap: op.cheap(inputs),
                    differentiable: op.differentiable(inputs),
                    op: op.recorded().into(),
                }),)*
                _ => Err(Error::invalid(op.name(), "has no backward rule, so it cannot be computed from variables")),
            }
        }

        /// The gradients of the operands of a step.
        pub(crate) fn backward(op: &Op, step: &Step, saved: &Saved, gradients: &[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> {
            let at = At { step, saved, gradients };
            match op {
                $(Op::$variant(op) => op.backward(&at),)*
                _ => Err(Error::invalid(op.name(), "has no backward rule")),
            }
        }
    };
}
rules! {
    (Attention, attention),
    (AttentionTopkStd, attention_topk_std),
    (BatchNorm, batch_norm),
    (Binary, binary),
    (BinaryCrossEntropy, binary_cross_entropy),
    (Concat, concat),
    (Conv3d, conv3d),
    (Conv3dDepthwise, conv3d_depthwise),
    (Copy, copy),
    (CrossEntropy, cross_entropy),
    (Dropout, dropout),
    (Gather, gather),
    (Gemm, gemm),
    (Interpolate, interpolate),
    (LayerNorm, layer_norm),
    (LayerNormGemm, layer_norm_gemm),
    (Reduce, reduce),
    (Resize, resize),
    (Softmax, softmax),
    (Unary, unary)
}
