//! Gradients of attention along both axes, over blocks of queries and keys; the result and log-sum-exp of the forward pass come from the reference.

use super::{
    Draw, Operand, Sample, Tolerance,
    attention::{roundings, weights, wide_head},
    largest,
};
use crate::{
    DType, Device,
    ops::{attention::attention_with_lse, attention_backward::AttentionBackward},
};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    // As for values in `attention`, of every operand.
    draw.single_nan(0);
    let axis = draw.rng.range(1, 2);
    let mut q = [draw.some(2), draw.some(3), draw.some(3), draw.some(3), 0];
    q[axis] = match draw.rng.below(12) {
        0..4 => draw.some(4),
        // More than a block of the kernels' has.
        4 if draw.size > 40 => 112 + draw.rng.below(40),
        _ => draw.some(70),
    };
    let [width, value_width] = match draw.rng.below(8) {
        0..4 => [draw.some(33), draw.some(33)],
        4 if draw.size > 40 => [wide_head(draw); 2],
        _ => [draw.some(64); 2],
    };
    q[4] = width;
    let mut k = q;
    k[axis] = match draw.rng.below(8) {
        0 => 0,
        1 if draw.size > 40 => 384 + draw.rng.below(40),
        2 | 3 => q[axis],
        _ => draw.some(60),
    };
    let mut v = k;
    v[4] = value_width;
    let mut out = q;
    out[4] = value_width;
    let scale = (width as f32).sqrt().recip();
    let [q, k, v, gradient] = [&q, &k, &v, &out].map(|shape| draw.operand(shape));
    let (result, lse) = forward(scale, axis, [&q, &k, &v]);
    let result = Operand::arranged(&mut draw.rng, draw.dtype, &out, result);
    let lse = Operand::arranged(&mut draw.rng, DType::F32, &out[..4], lse);
    let inputs = vec![Some(q), Some(k), Some(v), Some(result), Some(lse), Some(gradient)];
    let (factor, _) = roundings(&inputs, width, f64::from(scale));
    // Gradients of scores are rounded as probabilities are.
    let factor = factor + weights(draw.dtype);
    // A probability, off by `factor` roundings of itself, times a difference of two products over the value's width; summed over keys (queries).
    let [queries, keys] = [inputs[0].as_ref(), inputs[1].as_ref()].map(|x| x.map_or(1, |x| x.shape()[axis]) as f64);
    let (g, values) = (largest(&inputs[5..]), largest(&inputs[2..3]));
    let difference = 2.0 * g * values * (value_width as f64).sqrt().max(1.0) * 2.0;
    let roots = (value_width as f64).sqrt() + 2.0;
    let slope = |operand: f64, terms: f64| Tolerance::Roundings {
        factor: factor + roots + terms.sqrt(),
        // Probabilities of a query sum to one; those of a key over all queries may not.
        scale: f64::from(scale) * difference * operand * terms.max(1.0).sqrt(),
    };
    let (dq, dk) = (slope(largest(&inputs[1..2]), 1.0 + keys.ln().max(0.0)), slope(largest(&inputs[..1]), queries));
    let dv = Tolerance::Roundings { factor: factor + queries.sqrt(), scale: g * queries.max(1.0).sqrt() * 2.0 };
    Sample { op: AttentionBackward { scale, axis }.into(), inputs, tolerance: vec![dq, dk, dv], prepare: false }
}

/// The reference's result and log-sum-exp. With no keys, and where the reference fails, zeros: the gradient of nothing is nothing.
fn forward(scale: f32, axis: usize, operands: [&Operand; 3]) -> (Vec<f32>, Vec<f32>) {
    let reference = Device::reference();
    let run = || {
        let [q, k, v] = operands.map(|x| x.tensor(&reference));
        let [out, lse] = attention_with_lse(scale, axis, &q?, &k?, &v?)?;
        Ok::<_, crate::Error>((out.to_f32_vec()?, lse.to_f32_vec()?))
    };
    run().unwrap_or_default()
}
