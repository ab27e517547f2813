//! Depthwise convolutions, all kernel sizes up to 5.

use super::{Draw, Sample, largest};
use crate::ops::conv3d_depthwise::Conv3dDepthwise;

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    // As in `conv3d`.
    draw.single_nan(1);
    let kernel: [usize; 3] = std::array::from_fn(|_| [1, 3, 3, 5, 2][draw.rng.below(5)]);
    let padding: [usize; 3] = std::array::from_fn(|axis| draw.rng.below(kernel[axis] / 2 + 1));
    let size: [usize; 3] =
        std::array::from_fn(|axis| (kernel[axis] - 1).saturating_sub(2 * padding[axis]).max(1) + draw.rng.below(10));
    let (batch, channels) = (draw.some(3), draw.dim());
    let out: [usize; 3] = std::array::from_fn(|axis| size[axis] + 2 * padding[axis] + 1 - kernel[axis]);
    let inputs = vec![
        Some(draw.operand(&[batch, size[0], size[1], size[2], channels])),
        Some(draw.operand(&[kernel[0], kernel[1], kernel[2], channels])),
        draw.maybe(&[channels]),
        draw.maybe(&[batch, out[0], out[1], out[2], channels]),
    ];
    // At most k products and two additions, each rounded relative to a sum of at most k products.
    let k = kernel.iter().product::<usize>() as f64;
    let tolerance = draw.unless_integers(k.sqrt() + 4.0, largest(&inputs[..1]) * largest(&inputs[1..2]) * (k.sqrt() + 2.0));
    Sample { op: Conv3dDepthwise { padding }.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
