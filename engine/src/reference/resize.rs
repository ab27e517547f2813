//! Separable resampling of H and W with a bilinear or bicubic filter.

use super::{Array, add_scaled, advance, interpolate, operand};
use crate::{
    Result,
    ops::resize::{Filter, Resize},
};

pub fn run(op: &Resize, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let x = operand(inputs, 0)?;
    let s = &x.shape;
    let rows: Vec<_> = (0..op.height).map(|i| taps(op, i, s[1], op.height)).collect();
    let columns: Vec<_> = (0..op.width).map(|i| taps(op, i, s[2], op.width)).collect();
    let mut y = Array::from_fn(&[s[0], op.height, op.width, s[3]], |_| 0.0)?;
    let mut at = [0; 3];
    for _ in 0..y.shape[..3].iter().product() {
        for &(h, a) in &rows[at[1]] {
            for &(w, b) in &columns[at[2]] {
                add_scaled(y.row_mut(&at), a * b, x.row(&[at[0], h, w]));
            }
        }
        advance(&mut at, &[s[0], op.height, op.width]);
    }
    Ok(vec![y])
}

/// The inputs that output `i` reads, with their weights.
pub(super) fn taps(op: &Resize, i: usize, n: usize, m: usize) -> Vec<(usize, f64)> {
    if op.antialias {
        return antialiased(op.filter, i, n, m);
    }
    match op.filter {
        Filter::Bilinear => interpolate::linear(i, n, m, op.align_corners).to_vec(),
        Filter::Bicubic => {
            let position = interpolate::source(i, n, m, op.align_corners);
            let low = position.floor();
            let tap = |d: i32| {
                let at = low + f64::from(d);
                (at.clamp(0.0, (n - 1) as f64) as usize, cubic(position - at, -0.75))
            };
            (-1..=2).map(tap).collect()
        }
    }
}

/// The filter, widened by the scale when shrinking, over the inputs whose centres it covers; weights sum to 1.
fn antialiased(filter: Filter, i: usize, n: usize, m: usize) -> Vec<(usize, f64)> {
    let scale = n as f64 / m as f64;
    let widen = scale.max(1.0);
    let radius = widen * if filter == Filter::Bilinear { 1.0 } else { 2.0 };
    let centre = scale * (i as f64 + 0.5);
    let first = (centre - radius + 0.5).max(0.0) as usize;
    let last = ((centre + radius + 0.5) as usize).min(n);
    let weight = |j: usize| {
        let distance = (j as f64 - centre + 0.5) / widen;
        match filter {
            Filter::Bilinear => (1.0 - distance.abs()).max(0.0),
            Filter::Bicubic => cubic(distance, -0.5),
        }
    };
    let total: f64 = (first..last).map(weight).sum();
    (first..last).map(|j| (j, weight(j) / total)).collect()
}

/// Keys' cubic convolution kernel.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    } else {
        0.0
    }
}
