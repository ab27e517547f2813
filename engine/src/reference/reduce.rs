//! Sum, mean, sum of squares or maximum over some dimensions.

use super::{Array, operand};
use crate::{
    Result,
    ops::reduce::{Reduce, Reduction},
};

pub fn run(op: &Reduce, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let x = operand(inputs, 0)?;
    let kept: Vec<usize> = (0..x.shape.rank()).filter(|d| !op.axes.contains(d)).collect();
    let shape: Vec<usize> = kept.iter().map(|&d| x.shape[d]).collect();
    let reduced: Vec<usize> = op.axes.iter().map(|&d| x.shape[d]).collect();
    let y = Array::from_fn(&shape, |at| {
        let mut index = vec![0; x.shape.rank()];
        kept.iter().zip(at).for_each(|(&d, &i)| index[d] = i);
        let values = Array::from_fn(&reduced, |inner| {
            op.axes.iter().zip(inner).for_each(|(&d, &i)| index[d] = i);
            x.at(&index)
        });
        values.map_or(f64::NAN, |values| reduce(op.reduction, &values.data))
    })?;
    Ok(vec![y])
}

fn reduce(reduction: Reduction, values: &[f64]) -> f64 {
    match reduction {
        Reduction::Sum => values.iter().sum(),
        Reduction::Mean => values.iter().sum::<f64>() / values.len() as f64,
        Reduction::Squares => values.iter().map(|x| x * x).sum(),
        Reduction::Max => values.iter().fold(f64::NEG_INFINITY, |m, &x| if x.is_nan() || x > m { x } else { m }),
    }
}
