//! Normalised rows of every length in products of every shape around the tiles.

use super::{ANY, Draw, Operand, Sample, Tolerance, Values, largest, unary::brief};
use crate::{DType, Function, ops::layer_norm_gemm::LayerNormGemm};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let (m, n) = (draw.dim(), draw.dim());
    // Beyond the 384 steps that a product gathers at a time now and then.
    let k = if draw.size > 40 && draw.once_in(6) { 384 * draw.rng.range(1, 2) + draw.rng.below(5) } else { draw.dim() };
    let batch: Vec<usize> = (0..draw.rng.below(3)).map(|_| draw.some(3)).collect();
    let shape = |tail: &[usize]| [&batch[..], tail].concat();
    let function = if draw.values == Values::Normal && draw.once_in(2) { Some(Function::ALL[draw.rng.below(7)]) } else { None };
    let op = LayerNormGemm { eps: 1e-3, function };
    let x = draw.operand(&shape(&[m, k]));
    let x = if draw.once_in(2) { x.dense() } else { x };
    let normalised = normalised(&x, op.eps);
    let inputs = vec![
        Some(x),
        Some(draw.operand(&[n, k])),
        draw.maybe(&[n]),
        draw.maybe(&shape(&[m, n])),
        draw.maybe(&[k]),
        draw.maybe(&[k]),
    ];
    // Statistics and results of the norm are off as `layer_norm` says, relative to what is normalised; a device may round that to the element type.
    // Then as `gemm` says, all relative to the largest product.
    let product = (normalised * largest(&inputs[4..5]) + largest(&inputs[5..6])) * largest(&inputs[1..2]);
    let k = k as f64;
    let stored = if draw.dtype == DType::F32 { 0.0 } else { draw.dtype.unit_roundoff() / DType::F32.unit_roundoff() };
    let saved = function.map_or(0.0, |function| brief(function, draw.dtype));
    let factor = (k.sqrt() + 12.0) + stored + (4.0 * k.sqrt() + 32.0) + saved;
    let tolerance = Tolerance::Roundings { factor, scale: product * (k.sqrt() + 1.0).min(k + 1.0) };
    let prepare = draw.once_in(2);
    Sample { op: op.into(), inputs, tolerance: vec![tolerance], prepare }
}

/// The largest magnitude of `x / √(var + eps)` over the rows: that of what is normalised, and of what it is computed from.
fn normalised(x: &Operand, eps: f32) -> f64 {
    let (values, len) = (x.values().collect::<Vec<_>>(), x.shape()[x.shape().len() - 1]);
    let rows = values.chunks_exact(len.max(1)).map(|row| {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        row.iter().fold(0.0f64, |most, x| most.max(x.abs()).max((x - mean).abs())) / (variance + f64::from(eps)).sqrt()
    });
    rows.fold(1.0, f64::max)
}
