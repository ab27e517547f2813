//! Trilinear resampling of T, H, W.

use super::{Array, add_scaled, advance, operand};
use crate::{Result, ops::interpolate::Interpolate};

pub fn run(op: &Interpolate, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let x = operand(inputs, 0)?;
    let s = &x.shape;
    let mut y = Array::from_fn(&[s[0], op.size[0], op.size[1], op.size[2], s[4]], |_| 0.0)?;
    each_tap(s, &y.shape.clone(), op.align_corners, |from, to, weight| add_scaled(y.row_mut(to), weight, x.row(from)));
    Ok(vec![y])
}

/// Calls `f(index of the input's row, index of the output's row, weight)` for the eight rows that each of the output's reads.
pub(super) fn each_tap(input: &[usize], output: &[usize], align_corners: bool, mut f: impl FnMut(&[usize; 4], &[usize; 4], f64)) {
    let mut to = [0; 4];
    for _ in 0..output[..4].iter().product() {
        let taps: [[(usize, f64); 2]; 3] =
            std::array::from_fn(|axis| linear(to[1 + axis], input[1 + axis], output[1 + axis], align_corners));
        for (t, a) in taps[0] {
            for (h, b) in taps[1] {
                for (w, c) in taps[2] {
                    f(&[to[0], t, h, w], &to, a * b * c);
                }
            }
        }
        advance(&mut to, &output[..4]);
    }
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
