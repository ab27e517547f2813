//! Operations: one file each, with the descriptor, its shape rules, its cost and the public function.
//!
//! A descriptor is a plain struct of parameters. [`Op`] is the closed list of them: the rows of the grid. Every backend has a
//! file of the same name for each row, and gets its dispatch from [`for_each_operation`](crate::for_each_operation).

pub mod adam;
pub mod attention;
pub mod attention_backward;
pub mod attention_topk_std;
pub mod attention_topk_std_backward;
pub mod batch_norm;
pub mod batch_norm_backward;
pub mod binary;
pub mod binary_cross_entropy;
pub mod binary_cross_entropy_backward;
pub mod concat;
pub mod conv3d;
pub mod conv3d_backward_video;
pub mod conv3d_backward_weight;
pub mod conv3d_depthwise;
pub mod conv3d_depthwise_backward;
pub mod copy;
pub mod cross_entropy;
pub mod cross_entropy_backward;
pub mod dropout;
mod function;
pub mod gather;
pub mod gather_backward;
pub mod gemm;
pub mod interpolate;
pub mod interpolate_backward;
pub mod layer_norm;
pub mod layer_norm_backward;
pub mod layer_norm_gemm;
pub mod reduce;
pub mod resize;
pub mod resize_backward;
pub mod sgd;
pub mod softmax;
pub mod softmax_backward;
pub mod taps;
pub mod unary;
pub mod unary_backward;

pub use function::Function;

use crate::{DType, Device, Error, Operand, Result, Shape, Tensor};

/// Calls `$callback!` with the rows of the grid, as `(Variant, module)` pairs.
///
/// A backend writes `macro_rules! dispatch` over the pairs and gets a compile error for a missing cell.
#[macro_export]
macro_rules! for_each_operation {
    ($callback:ident) => {
        $callback! {
            (Adam, adam),
            (Attention, attention),
            (AttentionBackward, attention_backward),
            (AttentionTopkStd, attention_topk_std),
            (AttentionTopkStdBackward, attention_topk_std_backward),
            (BatchNorm, batch_norm),
            (BatchNormBackward, batch_norm_backward),
            (Binary, binary),
            (BinaryCrossEntropy, binary_cross_entropy),
            (BinaryCrossEntropyBackward, binary_cross_entropy_backward),
            (Concat, concat),
            (Conv3d, conv3d),
            (Conv3dBackwardVideo, conv3d_backward_video),
            (Conv3dBackwardWeight, conv3d_backward_weight),
            (Conv3dDepthwise, conv3d_depthwise),
            (Conv3dDepthwiseBackward, conv3d_depthwise_backward),
            (Copy, copy),
            (CrossEntropy, cross_entropy),
            (CrossEntropyBackward, cross_entropy_backward),
            (Dropout, dropout),
            (Gather, gather),
            (GatherBackward, gather_backward),
            (Gemm, gemm),
            (Interpolate, interpolate),
            (InterpolateBackward, interpolate_backward),
            (LayerNorm, layer_norm),
            (LayerNormBackward, layer_norm_backward),
            (LayerNormGemm, layer_norm_gemm),
            (Reduce, reduce),
            (Resize, resize),
            (ResizeBackward, resize_backward),
            (Sgd, sgd),
            (Softmax, softmax),
            (SoftmaxBackward, softmax_backward),
            (Unary, unary),
            (UnaryBackward, unary_backward)
        }
    };
}

/// The shape and element type of an operand or result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Shape,
}

impl Spec {
    /// Refuses what [`Shape::new`] refuses.
    pub fn new(dtype: DType, shape: &[usize]) -> Result<Self> {
        Ok(Spec { dtype, shape: Shape::new(shape)? })
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.shape.elements() as u64 * self.dtype.size() as u64
    }
}

/// What one run of an operation does, counted from its descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// FLOPs of matrix products and convolutions: a multiply-add is 2. The papers' tables count these alone.
    pub flops: u64,
    /// Other floating-point operations: normalisation, softmax, activation. One per element and elementary function.
    pub minor_flops: u64,
    /// Bytes of every operand read once and every result written once.
    pub bytes: u64,
}

impl Cost {
    /// The sum of two costs.
    ///
    /// # Errors
    /// [`Error::Count`] with the name of the first figure whose sum does not fit.
    pub fn checked_add(self, other: Cost) -> Result<Cost> {
        let sum = |what: &str, a: u64, b: u64| {
            a.checked_add(b).ok_or_else(|| Error::Count { what: format!("the sum of the {what} of all operations") })
        };
        Ok(Cost {
            flops: sum("FLOPs", self.flops, other.flops)?,
            minor_flops: sum("other FLOPs", self.minor_flops, other.minor_flops)?,
            bytes: sum("bytes", self.bytes, other.bytes)?,
        })
    }
}

/// A descriptor: what an operation is, apart from its operands.
pub trait Operation: Into<Op> {
    /// The operation's name: its file in every column.
    const NAME: &'static str;
    /// The operand that a backend may have laid out, if there is one ([`crate::Backend::prepare`]).
    const PREPARED: Option<(usize, Operand)> = None;
    /// Validates the operands and gives the results' shapes and types.
    fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>>;
    /// `(flops, minor_flops)` for validated operands; see [`Cost`].
    ///
    /// Both are exact: a [`Shape`] bounds the number of elements by 2⁶⁰, and no operation does more than a small multiple
    /// of the product of two such numbers.
    fn flops(&self, inputs: &[Option<&Tensor>], outputs: &[Spec]) -> (u128, u128);
}

macro_rules! define_op {
    ($(($variant:ident, $module:ident)),*) => {
        /// Any operation of the grid.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "each variant is documented at its descriptor")]
        pub enum Op {
            $($variant($module::$variant)),*
        }

        $(impl From<$module::$variant> for Op {
            fn from(op: $module::$variant) -> Op {
                Op::$variant(op)
            }
        })*

        impl Op {
            /// The names of all operations, in alphabetical order.
            pub const NAMES: &'static [&'static str] = &[$(<$module::$variant as Operation>::NAME),*];

            /// The operation's name: its file in every column.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$variant(_) => <$module::$variant as Operation>::NAME),*
                }
            }

            /// Validates the operands and gives the results' shapes and types.
            pub fn infer(&self, inputs: &[Option<&Tensor>]) -> Result<Vec<Spec>> {
                match self {
                    $(Op::$variant(op) => {
                        check::prepared(<$module::$variant as Operation>::NAME, inputs, <$module::$variant as Operation>::PREPARED)?;
                        op.infer(inputs)
                    }),*
                }
            }

            /// What a run on validated operands costs.
            ///
            /// # Errors
            /// [`Error::Count`] with the operation and the figure, if one does not fit into 64 bits.
            pub fn cost(&self, inputs: &[Option<&Tensor>], outputs: &[Spec]) -> Result<Cost> {
                let (flops, minor_flops) = match self {
                    $(Op::$variant(op) => op.flops(inputs, outputs)),*
                };
                let read = inputs.iter().flatten().map(|x| Spec { dtype: x.dtype(), shape: *x.shape() });
                let bytes = read.chain(outputs.iter().copied()).map(|spec| u128::from(spec.bytes())).sum();
                let count = |what: &str, n: u128| {
                    let name = self.name();
                    u64::try_from(n).map_err(|_| Error::Count { what: format!("the number of {what} of {name}, {n},") })
                };
                Ok(Cost {
                    flops: count("FLOPs", flops)?,
                    minor_flops: count("other FLOPs", minor_flops)?,
                    bytes: count("bytes", bytes)?,
                })
            }
        }
    };
}
for_each_operation!(define_op);

/// Runs an operation, and records it if an operand carries a [trace](crate::Trace).
pub fn run(op: &Op, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
    match inputs.iter().flatten().find_map(|x| x.trace()) {
        Some(trace) => trace.run(op, inputs),
        None => evaluate(op, inputs),
    }
}

/// Runs an operation without recording it: validates, allocates the results and dispatches once to the device of the operands.
pub fn evaluate(op: &Op, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>> {
    let device = common_device(op.name(), inputs)?;
    let outputs =
        op.infer(inputs)?.iter().map(|spec| Tensor::empty(device, spec.dtype, &spec.shape)).collect::<Result<Vec<_>>>()?;
    device.backend().run(op, inputs, &outputs)?;
    Ok(outputs)
}

/// [`run`] for operations with one result.
pub(crate) fn run_one(op: impl Operation, inputs: &[Option<&Tensor>]) -> Result<Tensor> {
    let op = op.into();
    let mut outputs = run(&op, inputs)?;
    outputs.pop().ok_or_else(|| Error::shape(op.name(), "the operation has no result"))
}

fn common_device<'a>(op: &'static str, inputs: &[Option<&'a Tensor>]) -> Result<&'a Device> {
    let mut present = inputs.iter().flatten();
    let first = present.next().ok_or_else(|| Error::shape(op, "no operands"))?;
    match present.find(|x| x.device() != first.device()) {
        None => Ok(first.device()),
        Some(other) => Err(Error::DeviceMismatch { op, devices: [first.device().name().into(), other.device().name().into()] }),
    }
}

/// Helpers for `infer`: each names the operation and the operand in its error.
pub(crate) mod check {
    use super::*;

    /// Operand `i`, which must be present.
    pub fn need<'a>(op: &'static str, inputs: &[Option<&'a Tensor>], i: usize, name: &'static str) -> Result<&'a Tensor> {
        inputs.get(i).copied().flatten().ok_or_else(|| Error::shape(op, format!("operand {name} is missing")))
    }

    /// Operand `i`, which may be absent.
    pub fn optional<'a>(inputs: &[Option<&'a Tensor>], i: usize) -> Option<&'a Tensor> {
        inputs.get(i).copied().flatten()
    }

    /// At most `n` operands.
    pub fn at_most(op: &'static str, inputs: &[Option<&Tensor>], n: usize) -> Result<()> {
        if inputs.len() > n { Err(Error::shape(op, format!("{} operands, at most {n}", inputs.len()))) } else { Ok(()) }
    }

    /// A floating-point operand.
    pub fn float(op: &'static str, x: &Tensor, operand: &'static str) -> Result<()> {
        if x.dtype().is_float() { Ok(()) } else { Err(Error::DType { op, operand, got: x.dtype(), expected: "a float" }) }
    }

    /// An operand of one element type.
    pub fn dtype(op: &'static str, x: &Tensor, operand: &'static str, expected: DType) -> Result<()> {
        if x.dtype() == expected { Ok(()) } else { Err(Error::DType { op, operand, got: x.dtype(), expected: expected.name() }) }
    }

    /// An operand of one rank.
    pub fn rank(op: &'static str, x: &Tensor, name: &'static str, rank: usize, dims: &str) -> Result<()> {
        if x.rank() == rank { Ok(()) } else { Err(Error::shape(op, format!("{name} is {}, expected {dims}", x.shape()))) }
    }

    /// An operand of one shape.
    pub fn shape(op: &'static str, x: &Tensor, name: &'static str, expected: &[usize]) -> Result<()> {
        if **x.shape() == *expected {
            Ok(())
        } else {
            Err(Error::shape(op, format!("{name} is {}, expected {expected:?}", x.shape())))
        }
    }

    /// An operand that a backend has laid out must have been laid out for this use.
    pub fn prepared(op: &'static str, inputs: &[Option<&Tensor>], allowed: Option<(usize, Operand)>) -> Result<()> {
        for (i, x) in inputs.iter().enumerate() {
            let prepared = x.and_then(Tensor::prepared);
            if prepared.is_some() && allowed != prepared.map(|operand| (i, operand)) {
                return Err(Error::shape(op, format!("operand {i} was prepared as {prepared:?}, for another use")));
            }
        }
        Ok(())
    }
}
