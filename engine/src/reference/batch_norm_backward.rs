//! Per channel: `dweight = Σ gradient·x̂`, `dbias = Σ gradient`, `dx = weight/σ · (gradient − (dbias + x̂·dweight)/n)`, the mean terms only for
//! statistics of the batch.

use super::{Array, operand, optional};
use crate::{Result, ops::batch_norm_backward::BatchNormBackward};

pub fn run(op: &BatchNormBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, mean, var, gradient) = (operand(inputs, 0)?, operand(inputs, 2)?, operand(inputs, 3)?, operand(inputs, 4)?);
    let channels = x.shape[x.shape.rank() - 1];
    let n = (x.data.len() / channels.max(1)) as f64;
    let sigma = |c: &[usize]| (var.at(c) + f64::from(op.eps)).sqrt();
    let hat = |x: f64, c: &[usize]| (x - mean.at(c)) / sigma(c);
    let dbias = Array::from_fn(&[channels], |c| gradient.rows().map(|row| row[c[0]]).sum())?;
    let dweight = Array::from_fn(&[channels], |c| {
        x.rows().zip(gradient.rows()).map(|(x, gradient)| gradient[c[0]] * hat(x[c[0]], c)).sum()
    })?;
    let dx = Array::from_fn(&x.shape, |at| {
        let c = &at[at.len() - 1..];
        let weight = optional(inputs, 1).map_or(1.0, |weight| weight.at(c));
        let mean = if op.batch { (dbias.at(c) + hat(x.at(at), c) * dweight.at(c)) / n } else { 0.0 };
        weight / sigma(c) * (gradient.at(at) - mean)
    })?;
    Ok(vec![dx, dweight, dbias])
}
