//! Back through the kept rows of temporal attention with topK_std pooling.

use super::{Array, attention::scores, operand, softmax::softmax, softmax_backward::backward};
use crate::{Result, ops::attention_topk_std_backward::AttentionTopkStdBackward};

pub fn run(op: &AttentionTopkStdBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let [q, k, v] = [operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?];
    let (kept, gradient) = (operand(inputs, 3)?, operand(inputs, 4)?);
    let (frames, scale) = (q.shape[1], f64::from(op.scale));
    let mut results = [q, k, v].map(|x| Array { shape: x.shape, data: vec![0.0; x.data.len()] });
    let mut at = vec![0; 4];
    for _ in 0..kept.data.len() {
        let [b, slot, n, h] = [at[0], at[1], at[2], at[3]];
        let frame = (kept.at(&at).max(0.0) as usize).min(frames - 1);
        let first = softmax(&scores(op.scale, 1, q, k, &[b, frame, n, h]));
        let weights = if op.renormalize { softmax(&first) } else { first.clone() };
        let dot = |i: usize| (0..v.shape[4]).map(|c| gradient.at(&[b, slot, n, h, c]) * v.at(&[b, i, n, h, c])).sum::<f64>();
        let mut dweights: Vec<f64> = (0..frames).map(dot).collect();
        if op.renormalize {
            dweights = backward(&weights, &dweights);
        }
        for (i, ds) in backward(&first, &dweights).into_iter().enumerate() {
            for c in 0..q.shape[4] {
                *results[0].at_mut(&[b, frame, n, h, c]) += scale * ds * k.at(&[b, i, n, h, c]);
                *results[1].at_mut(&[b, i, n, h, c]) += scale * ds * q.at(&[b, frame, n, h, c]);
            }
            for c in 0..v.shape[4] {
                *results[2].at_mut(&[b, i, n, h, c]) += weights[i] * gradient.at(&[b, slot, n, h, c]);
            }
        }
        super::advance(&mut at, &kept.shape);
    }
    Ok(results.into())
}
