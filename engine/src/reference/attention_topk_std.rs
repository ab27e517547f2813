//! Temporal attention whose rows of largest standard deviation stay (VidTr, equation 10).

use super::{Array, add_scaled, attention::scores, operand, softmax::softmax};
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
    let mut y = Array::from_fn(&[b, op.keep, n, heads, width], |_| 0.0)?;
    for (slot, &frame) in kept.data.iter().enumerate() {
        let (h, place, batch) = (slot % heads, slot / heads % n, slot / heads / n / op.keep);
        let mut weights = row(batch, frame as usize, place, h);
        if op.renormalize {
            weights = softmax(&weights);
        }
        for (i, p) in weights.into_iter().enumerate() {
            add_scaled(&mut y.data[slot * width..][..width], p, v.row(&[batch, i, place, h]));
        }
    }
    Ok(vec![y, kept, std])
}

fn unbiased_std(row: &[f64]) -> f64 {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}
