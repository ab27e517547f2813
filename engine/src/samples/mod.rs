//! Random operands for every operation, with a tolerance and its derivation: one record serves the tests, `tubelet verify` and fuzzing.
//!
//! A [`Sample`] is drawn from a seed. [`check`] runs it on a device and on the f64 reference and compares. Operands come in every
//! arrangement (permuted, cut out of something larger whose rest is NaN, broadcast), so that a kernel that reads beside its view is found.

mod adam;
mod attention;
mod attention_backward;
mod attention_topk_std;
mod attention_topk_std_backward;
mod batch_norm;
mod batch_norm_backward;
mod binary;
mod binary_cross_entropy;
mod binary_cross_entropy_backward;
mod choices;
mod concat;
mod conv3d;
mod conv3d_backward_video;
mod conv3d_backward_weight;
mod conv3d_depthwise;
mod conv3d_depthwise_backward;
mod copy;
mod cross_entropy;
mod cross_entropy_backward;
mod dropout;
mod gather;
mod gather_backward;
mod gemm;
mod interpolate;
mod interpolate_backward;
mod layer_norm;
mod layer_norm_backward;
mod layer_norm_gemm;
mod operand;
mod reduce;
mod resize;
mod resize_backward;
mod sgd;
mod softmax;
mod softmax_backward;
mod unary;
mod unary_backward;

pub use choices::Choices;
pub use operand::Operand;

use crate::{DType, Device, Error, Op, Result, Tensor, for_each_operation, ops};

/// What the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Small integers, for which products and sums are exact in f32: indexing errors cannot hide in a tolerance.
    Integers,
    /// Standard normal.
    Normal,
    /// Normal, with NaN, infinities, zeros and large numbers among them; for sums, of which those would leave nothing, a single NaN in one
    /// operand, or none where devices may make of it what they like (padding, weights of 0).
    Special,
}

/// How far a result may be from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Not at all: every intermediate result is representable, and the final rounding is the same.
    Exact,
    /// `factor · 2⁻²⁴ · scale`, and two roundings of the result's element type. `factor` counts f32 roundings on the way to an element, `scale`
    /// bounds the magnitudes that they are relative to.
    Roundings {
        /// Roundings.
        factor: f64,
        /// Magnitude.
        scale: f64,
    },
}

/// One random case.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The operation.
    pub op: Op,
    /// Its operands.
    pub inputs: Vec<Option<Operand>>,
    /// How exact the results must be, in order; the last one serves for the rest.
    pub tolerance: Vec<Tolerance>,
    /// Whether the operand that may be prepared is.
    pub prepare: bool,
}

/// What [`check`] found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Elements compared.
    pub elements: usize,
    /// The largest error as a part of what is allowed; 0 where all are equal.
    pub worst: f64,
}

/// A [single NaN](Draw::single_nan) may be in any operand.
pub(crate) const ANY: usize = usize::MAX;

/// The knobs of a sampler.
pub(crate) struct Draw<'a> {
    pub rng: Choices<'a>,
    /// Bounds the sizes of dimensions.
    pub size: usize,
    pub dtype: DType,
    pub values: Values,
    /// How many operands, from the first, are such that an element of one of them becomes NaN.
    pub nan: usize,
}

impl Draw<'_> {
    /// Instead of special values a single NaN in one of the first `operands`: what must be NaN is, and nothing else.
    pub fn single_nan(&mut self, operands: usize) {
        if self.values == Values::Special {
            (self.values, self.nan) = (Values::Normal, operands);
        }
    }

    /// A dimension: 0 now and then, 1 often, else up to `size`, with a preference for the neighbourhood of multiples of 16.
    pub fn dim(&mut self) -> usize {
        match self.rng.below(12) {
            0 => 0,
            1 | 2 => 1,
            3 | 4 => (16 * self.rng.range(1, 4) + self.rng.below(3)).saturating_sub(1).min(self.size.max(1)),
            _ => self.rng.range(1, self.size.max(1)),
        }
    }

    /// A dimension that is not 0 and at most `most`.
    pub fn some(&mut self, most: usize) -> usize {
        self.rng.range(1, most.min(self.size.max(1)).max(1))
    }

    /// True with one chance in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.rng.below(n) == 0
    }

    /// An operand of the sample's element type.
    pub fn operand(&mut self, shape: &[usize]) -> Operand {
        let (dtype, values) = (self.dtype, self.values);
        Operand::draw(&mut self.rng, dtype, shape, values)
    }

    /// An operand that is absent half of the time.
    pub fn maybe(&mut self, shape: &[usize]) -> Option<Operand> {
        if self.once_in(2) { None } else { Some(self.operand(shape)) }
    }

    /// The element types that samples of most operations take, in f32 where the sample's is not a float.
    pub fn float(&mut self) {
        if !self.dtype.is_float() {
            self.dtype = DType::F32;
        }
    }

    /// Exact for integers, else the tolerance given.
    pub fn unless_integers(&self, factor: f64, scale: f64) -> Tolerance {
        if self.values == Values::Integers { Tolerance::Exact } else { Tolerance::Roundings { factor, scale } }
    }
}

/// The largest magnitude among operands, at least 1.
pub(crate) fn largest<'a>(operands: impl IntoIterator<Item = &'a Option<Operand>>) -> f64 {
    operands.into_iter().flatten().flat_map(|x| x.values()).filter(|x| x.is_finite()).fold(1.0, |m, x| m.max(x.abs()))
}

macro_rules! dispatch {
    ($(($variant:ident, $module:ident)),*) => {
        /// A case of the operation `name` that `choices` (a `&mut Philox`, or bytes) make; `None` if there is no such operation.
        /// `size` bounds the dimensions.
        pub fn sample<'a>(
            name: &str,
            choices: impl Into<Choices<'a>>,
            size: usize,
            dtype: DType,
            values: Values,
        ) -> Option<Sample> {
            let mut draw = Draw { rng: choices.into(), size, dtype, values, nan: 0 };
            let mut sample = match name {
                $(<ops::$module::$variant as ops::Operation>::NAME => $module::sample(&mut draw),)*
                _ => return None,
            };
            let operands = sample.inputs.iter_mut().take(draw.nan).flatten();
            let mut operands: Vec<_> = operands.filter(|x| x.can_be_nan()).collect();
            if !operands.is_empty() {
                let which = draw.rng.below(operands.len());
                operands[which].set_nan(&mut draw.rng);
            }
            Some(sample)
        }
    };
}
for_each_operation!(dispatch);

/// Runs a sample on `device`.
pub fn run(device: &Device, sample: &Sample) -> Result<Vec<Tensor>> {
    let inputs = sample.inputs.iter().map(|x| x.as_ref().map(|x| x.tensor(device)).transpose()).collect::<Result<Vec<_>>>()?;
    let prepared = match (&sample.op, sample.prepare) {
        (Op::Gemm(_) | Op::LayerNormGemm(_), true) => Some(crate::Operand::GemmWeight),
        (Op::Conv3d(op), true) if op.groups == 1 => Some(crate::Operand::Conv3dWeight),
        _ => None,
    };
    let mut inputs = inputs;
    if let (Some(operand), Some(Some(weight))) = (prepared, inputs.get_mut(1)) {
        *weight = weight.prepare(operand)?;
    }
    let borrowed: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
    ops::run(&sample.op, &borrowed)
}

/// Compares `device` with the reference.
///
/// # Errors
/// What the device says, and an [`Error::Invalid`] that names the operation, the shapes and the worst element where a result is wrong.
pub fn check(device: &Device, sample: &Sample) -> Result<Report> {
    check_against(&Device::reference(), device, sample)
}

/// Compares `device` with `reference`, a [`Device::reference`] that serves many samples.
///
/// # Errors
/// See [`check`].
pub fn check_against(reference: &Device, device: &Device, sample: &Sample) -> Result<Report> {
    let (ours, expected) = (run(device, sample)?, run(reference, sample)?);
    let mut report = Report::default();
    for (i, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
        let fallback = sample.tolerance.last().copied().unwrap_or(Tolerance::Exact);
        let tolerance = sample.tolerance.get(i).copied().unwrap_or(fallback);
        let (got, want) = (ours.to_f64_vec()?, expected.to_f64_vec()?);
        report.elements += want.len();
        for (at, (&a, &b)) in got.iter().zip(&want).enumerate() {
            let part = excess(tolerance, ours.dtype(), a, b);
            if part.is_nan() || part > 1.0 {
                let shapes: Vec<_> = sample.inputs.iter().flatten().map(Operand::describe).collect();
                let message = format!(
                    "{:?} on {}: result {i}, element {at} of {}: {a:e}, expected {b:e} ({part:.2} of the tolerance {tolerance:?}); operands {}",
                    sample.op,
                    device.name(),
                    ours.shape(),
                    shapes.join(", ")
                );
                return Err(Error::invalid(sample.op.name(), message));
            }
            report.worst = report.worst.max(part);
        }
    }
    Ok(report)
}

/// The error as a part of what is allowed.
fn excess(tolerance: Tolerance, dtype: DType, a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let Tolerance::Roundings { factor, scale } = tolerance else { return f64::INFINITY };
    // Two roundings of the element type: the kernel's and, where it falls to the other side, the reference's.
    let unit = dtype.unit_roundoff().max(DType::F32.unit_roundoff());
    // The smallest normal f16 is 2⁻¹⁴: below it roundings are absolute.
    let subnormal = if dtype == DType::F16 { 2f64.powi(-24) } else { 0.0 };
    // An integer result may fall to the other side of a half.
    let step = if dtype.is_float() { 0.0 } else { 1.0 };
    let allowed = factor * DType::F32.unit_roundoff() * scale + 2.0 * unit * b.abs() + subnormal + step;
    (a - b).abs() / allowed
}
