//! Trilinear resampling of T, H, W.

use super::{Array, operand};
use crate::{Result, ops::interpolate::Interpolate};

pub fn run(op: &Interpolate, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let x = operand(inputs, 0)?;
    let s = &x.shape;
    let y = Array::from_fn(&[s[0], op.size[0], op.size[1], op.size[2], s[4]], |at| {
        let taps: [[(usize, f64); 2]; 3] =
            std::array::from_fn(|axis| linear(at[1 + axis], s[1 + axis], op.size[axis], op.align_corners));
        let mut sum = 0.0;
        for (t, a) in taps[0] {
            for (h, b) in taps[1] {
                for (w, c) in taps[2] {
                    sum += a * b * c * x.at(&[at[0], t, h, w, at[4]]);
                }
            }
        }
        sum
    })?;
    Ok(vec![y])
}

/// The two neighbours of output `i` among `n` inputs for `m` outputs, with their weights.
pub(super) fn linear(i: usize, n: usize, m: usize, align_corners: bool) -> [(usize, f64); 2] {
    let position = source(i, n, m, align_corners).max(0.0);
    let low = (position.floor() as usize).min(n - 1);
    let fraction = position - low as f64;
    [(low, 1.0 - fraction), ((low + 1).min(n - 1), fraction)]
}

/// Where output `i` of `m` lies among `n` inputs.
pub(super) fn source(i: usize, n: usize, m: usize, align_corners: bool) -> f64 {
    match (align_corners, m) {
        (true, 1) => 0.0,
        (true, _) => i as f64 * (n - 1) as f64 / (m - 1) as f64,
        (false, _) => (i as f64 + 0.5) * n as f64 / m as f64 - 0.5,
    }
}
