//! Per channel: `dweight = Σ gradient·x̂`, `dbias = Σ gradient`, `dx = weight/σ · (gradient − (dbias + x̂·dweight)/n)`, the mean terms only for
//! statistics of the batch.

use super::{Array, operand, optional};
use crate::{Result, Shape, ops::batch_norm_backward::BatchNormBackward};

pub fn run(op: &BatchNormBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, mean, var, gradient) = (operand(inputs, 0)?, operand(inputs, 2)?, operand(inputs, 3)?, operand(inputs, 4)?);
    let channels = x.shape[x.shape.rank() - 1];
    let n = (x.data.len() / channels.max(1)) as f64;
    let sigma: Vec<f64> = var.data.iter().map(|var| (var + f64::from(op.eps)).sqrt()).collect();
    let mut hat = x.clone();
    let (mut dbias, mut dweight) = (vec![0.0; channels], vec![0.0; channels]);
    for (hat, gradient) in hat.data.chunks_mut(channels.max(1)).zip(gradient.rows()) {
        for (c, (hat, g)) in hat.iter_mut().zip(gradient).enumerate() {
            *hat = (*hat - mean.data[c]) / sigma[c];
            dbias[c] += g;
            dweight[c] += g * *hat;
        }
    }
    let mut dx = Vec::with_capacity(x.data.len());
    for (hat, gradient) in hat.rows().zip(gradient.rows()) {
        dx.extend(hat.iter().zip(gradient).enumerate().map(|(c, (hat, g))| {
            let weight = optional(inputs, 1).map_or(1.0, |weight| weight.data[c]);
            let mean = if op.batch { (dbias[c] + hat * dweight[c]) / n } else { 0.0 };
            weight / sigma[c] * (g - mean)
        }));
    }
    let shape = Shape::new(&[channels])?;
    Ok(vec![Array { shape: x.shape, data: dx }, Array { shape, data: dweight }, Array { shape, data: dbias }])
}
