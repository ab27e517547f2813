//! `dx = (g − mean(g) − x̂·mean(g·x̂))/σ` with `g = gradient·weight`; `dweight = Σ gradient·x̂`, `dbias = Σ gradient`.

use super::{Array, operand, optional};
use crate::{Result, Shape, ops::layer_norm_backward::LayerNormBackward};

pub fn run(op: &LayerNormBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, gradient) = (operand(inputs, 0)?, operand(inputs, 2)?);
    let c = x.shape[x.shape.rank() - 1];
    let weight = |c: usize| optional(inputs, 1).map_or(1.0, |weight| weight.at(&[c]));
    let (mut dweight, mut dbias) = (vec![0.0; c], vec![0.0; c]);
    let mut data = Vec::with_capacity(x.data.len());
    for (row, gradient) in x.rows().zip(gradient.rows()) {
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let sigma = (var + f64::from(op.eps)).sqrt();
        let hat: Vec<f64> = row.iter().map(|x| (x - mean) / sigma).collect();
        let g: Vec<f64> = gradient.iter().enumerate().map(|(c, g)| g * weight(c)).collect();
        let mean_g = g.iter().sum::<f64>() / n;
        let mean_gx = g.iter().zip(&hat).map(|(g, x)| g * x).sum::<f64>() / n;
        data.extend(g.iter().zip(&hat).map(|(g, x)| (g - mean_g - x * mean_gx) / sigma));
        for (c, (g, x)) in gradient.iter().zip(&hat).enumerate() {
            dweight[c] += g * x;
            dbias[c] += g;
        }
    }
    let shape = Shape::new(&[c])?;
    Ok(vec![Array { shape: x.shape, data }, Array { shape, data: dweight }, Array { shape, data: dbias }])
}
