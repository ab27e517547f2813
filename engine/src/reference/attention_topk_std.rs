//! Temporal attention whose rows of largest standard deviation stay (VidTr, equation 10).

use super::{Array, attention::scores, operand, softmax::softmax};
use crate::{Result, ops::attention_topk_std::AttentionTopkStd};

pub fn run(op: &AttentionTopkStd, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (q, k, v) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let [b, t, n, heads, width] = [q.shape[0], q.shape[1], q.shape[2], q.shape[3], v.shape[4]];
    let row = |b: usize, t: usize, n: usize, h: usize| softmax(&scores(op.scale, 1, q, k, &[b, t, n, h]));
    let std = Array::from_fn(&[b, t, n, heads], |at| unbiased_std(&row(at[0], at[1], at[2], at[3])))?;
    let kept = Array::from_fn(&[b, op.keep, n, heads], |at| {
        let mut frames: Vec<usize> = (0..t).collect();
        // A stable sort: of equal deviations the earlier frame stays.
        frames.sort_by(|&i, &j| std.at(&[at[0], j, at[2], at[3]]).total_cmp(&std.at(&[at[0], i, at[2], at[3]])));
        frames.truncate(op.keep);
        frames.sort_unstable();
        frames[at[1]] as f64
    })?;
    let y = Array::from_fn(&[b, op.keep, n, heads, width], |at| {
        let frame = kept.at(&at[..4]) as usize;
        let mut weights = row(at[0], frame, at[2], at[3]);
        if op.renormalize {
            weights = softmax(&weights);
        }
        weights.iter().enumerate().map(|(i, p)| p * v.at(&[at[0], i, at[2], at[3], at[4]])).sum()
    })?;
    Ok(vec![y, kept, std])
}

fn unbiased_std(row: &[f64]) -> f64 {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}
