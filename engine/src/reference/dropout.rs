//! `x · m / (1 − p)`, one draw for each run of the last dimensions.

use super::{Array, operand};
use crate::{Result, ops::dropout::Dropout};

pub fn run(op: &Dropout, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let x = operand(inputs, 0)?;
    let run: usize = x.shape[x.shape.rank() - op.shared..].iter().product();
    let data = x.data.iter().enumerate().map(|(i, x)| x * f64::from(op.factor((i / run) as u64))).collect();
    Ok(vec![Array { shape: x.shape, data }])
}
