//! Any kept frames will do, also repeated ones and ones out of range.

use super::{Draw, Operand, Sample, Tolerance, Values, attention::roundings, largest};
use crate::{DType, ops::attention_topk_std_backward::AttentionTopkStdBackward};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    draw.values = Values::Normal;
    let (b, n, heads) = (draw.some(2), draw.some(3), draw.some(3));
    let frames = draw.rng.range(2, 20);
    let keep = draw.rng.range(1, frames);
    let width = draw.some(40);
    let value_width = draw.some(40);
    let [q, k] = [(); 2].map(|()| draw.operand(&[b, frames, n, heads, width]));
    let v = draw.operand(&[b, frames, n, heads, value_width]);
    let kept = (0..b * keep * n * heads).map(|_| draw.rng.below(frames + 2) as f32 - 1.0).collect();
    let kept = Operand::arranged(&mut draw.rng, DType::I32, &[b, keep, n, heads], kept);
    let gradient = draw.operand(&[b, keep, n, heads, value_width]);
    let inputs = vec![Some(q), Some(k), Some(v), Some(kept), Some(gradient)];
    let scale = (width as f32).sqrt().recip();
    let (factor, _) = roundings(&inputs, width, f64::from(scale));
    // As for attention; up to `keep` rows add up, each of which a second softmax may have passed through.
    let (g, values, rows) = (largest(&inputs[4..]), largest(&inputs[2..3]), keep as f64);
    let difference = 4.0 * g * values * (value_width as f64).sqrt() * rows.sqrt().max(1.0) * 2.0;
    let factor = 2.0 * factor + (value_width as f64).sqrt() + rows;
    let slope = |operand: f64| Tolerance::Roundings { factor, scale: f64::from(scale) * difference * operand };
    let tolerance =
        vec![slope(largest(&inputs[1..2])), slope(largest(&inputs[..1])), Tolerance::Roundings { factor, scale: g * rows }];
    let op = AttentionTopkStdBackward { scale, renormalize: draw.once_in(2) };
    Sample { op: op.into(), inputs, tolerance, prepare: false }
}
