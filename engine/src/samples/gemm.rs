//! Products of every shape around the tiles.

use super::{ANY, Draw, Sample, Values, largest, unary::brief};
use crate::{Function, ops::gemm::Gemm};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.single_nan(ANY);
    let (m, n) = (draw.dim(), draw.dim());
    // As models have them: kernels may read such rows as vectors.
    let dense = draw.once_in(3);
    // Beyond the 384 steps that sums stay in registers now and then.
    let k = match draw.size > 40 && draw.once_in(6) {
        _ if dense => 4 * draw.some(32),
        true => 384 * draw.rng.range(1, 2) + draw.rng.below(5),
        false => draw.dim(),
    };
    let batch: Vec<usize> = (0..draw.rng.below(3)).map(|_| draw.some(3)).collect();
    let batched = draw.once_in(4);
    let shape = |tail: &[usize]| [&batch[..], tail].concat();
    let weight = if batched { shape(&[n, k]) } else { vec![n, k] };
    let function = if draw.values == Values::Normal && draw.once_in(2) { Some(Function::ALL[draw.rng.below(7)]) } else { None };
    let alpha = if draw.values == Values::Normal && draw.once_in(3) { 0.37 } else { 1.0 };
    let [x, weight] = [shape(&[m, k]), weight].map(|shape| {
        let x = draw.operand(&shape);
        if dense { x.dense() } else { x }
    });
    let inputs = vec![Some(x), Some(weight), draw.maybe(&[n]), draw.maybe(&shape(&[m, n]))];
    // A sum of K products of magnitude at most x·w is off by at most K roundings of Σ|x·w| (Higham, section 3.1), which for independent
    // signs is seen as a few times √K of the largest product; functions are 1.2-Lipschitz at most; then bias, alpha, function, residual.
    let product = largest(&inputs[..1]) * largest(&inputs[1..2]);
    let k = k as f64;
    let saved = function.map_or(0.0, |function| brief(function, draw.dtype));
    let tolerance = draw.unless_integers(4.0 * k.sqrt() + 32.0 + saved, product * (k.sqrt() + 1.0).min(k + 1.0));
    let prepare = !batched && draw.once_in(2);
    Sample { op: Gemm { alpha, function }.into(), inputs, tolerance: vec![tolerance], prepare }
}
