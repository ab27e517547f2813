//! Resampling weights of one axis: which inputs an output reads, and how much of each. For backends: every one resamples by these tables.

use super::resize::{Filter, Resize};

/// For each output: `(input, weight)` of every input it reads.
pub type Taps = Vec<Vec<(usize, f32)>>;

/// The weights with which `op` makes `m` outputs of `n` inputs, along either axis.
pub fn resized(op: &Resize, n: usize, m: usize) -> Taps {
    match (op.antialias, op.filter) {
        (true, filter) => antialiased(filter, n, m),
        (false, Filter::Bilinear) => linear(n, m, op.align_corners),
        (false, Filter::Bicubic) => bicubic(n, m, op.align_corners),
    }
}

/// The transpose: for each of `n` inputs the outputs that read it, in increasing order.
pub fn transposed(taps: &Taps, n: usize) -> Taps {
    let mut of_input = vec![Vec::new(); n];
    for (output, taps) in taps.iter().enumerate() {
        for &(input, weight) in taps {
            of_input[input].push((output, weight));
        }
    }
    of_input
}

/// Where output `i` of `m` lies among `n` inputs.
fn source(i: usize, n: usize, m: usize, align_corners: bool) -> f64 {
    if !align_corners {
        return (i as f64 + 0.5) * n as f64 / m as f64 - 0.5;
    }
    if m == 1 { 0.0 } else { i as f64 * (n - 1) as f64 / (m - 1) as f64 }
}

/// Linear interpolation between neighbours, clamped at the borders.
pub fn linear(n: usize, m: usize, align_corners: bool) -> Taps {
    let tap = |i| {
        let position = source(i, n, m, align_corners).max(0.0);
        let low = (position as usize).min(n - 1);
        let fraction = position - low as f64;
        vec![(low, (1.0 - fraction) as f32), ((low + 1).min(n - 1), fraction as f32)]
    };
    (0..m).map(tap).collect()
}

/// Cubic convolution over four neighbours, clamped at the borders.
fn bicubic(n: usize, m: usize, align_corners: bool) -> Taps {
    let tap = |i| {
        let position = source(i, n, m, align_corners);
        let low = position.floor();
        let at = |d: i32| {
            let at = low + f64::from(d);
            (at.clamp(0.0, (n - 1) as f64) as usize, cubic(position - at, -0.75) as f32)
        };
        (-1..=2).map(at).collect()
    };
    (0..m).map(tap).collect()
}

/// The filter widened by the scale when shrinking, weights renormalised.
fn antialiased(filter: Filter, n: usize, m: usize) -> Taps {
    let scale = n as f64 / m as f64;
    let widen = scale.max(1.0);
    let radius = widen * if filter == Filter::Bilinear { 1.0 } else { 2.0 };
    let tap = |i: usize| {
        let centre = scale * (i as f64 + 0.5);
        let first = (centre - radius + 0.5).max(0.0) as usize;
        let last = ((centre + radius + 0.5) as usize).min(n);
        let weight = |j: usize| {
            let distance = (j as f64 + 0.5 - centre) / widen;
            if filter == Filter::Bilinear { (1.0 - distance.abs()).max(0.0) } else { cubic(distance, -0.5) }
        };
        let total: f64 = (first..last).map(weight).sum();
        (first..last).map(|j| (j, (weight(j) / total) as f32)).collect()
    };
    (0..m).map(tap).collect()
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
