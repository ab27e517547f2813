//! Back through the kept rows of temporal attention with topK_std pooling.

use super::{Array, add_scaled, attention::scores, dot, operand, softmax::softmax, softmax_backward::backward};
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
        let gradient = gradient.row(&[b, slot, n, h]);
        let mut dweights: Vec<f64> = (0..frames).map(|i| dot(gradient, v.row(&[b, i, n, h]))).collect();
        if op.renormalize {
            dweights = backward(&weights, &dweights);
        }
        for (i, ds) in backward(&first, &dweights).into_iter().enumerate() {
            let (own, other) = ([b, frame, n, h], [b, i, n, h]);
            add_scaled(results[0].row_mut(&own), scale * ds, k.row(&other));
            add_scaled(results[1].row_mut(&other), scale * ds, q.row(&own));
            add_scaled(results[2].row_mut(&other), weights[i], gradient);
        }
        super::advance(&mut at, &kept.shape);
    }
    Ok(results.into())
}
