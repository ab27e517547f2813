//! Convolutions with strides, offsets, padding, groups and fused normalisation, of bytes or floats.

use super::{Draw, Operand, Sample, Values, largest};
use crate::{DType, ops::conv3d::Conv3d};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    draw.float();
    // What NaN times padding is, a device may choose: some multiply by 0, some leave padding out.
    draw.single_nan(1);
    let groups = if draw.once_in(5) { 2 } else { 1 };
    let channels = draw.some(4) * groups;
    let kernel: [usize; 3] = std::array::from_fn(|_| draw.some(5));
    let padding: [usize; 3] = std::array::from_fn(|_| if draw.once_in(2) { 0 } else { draw.rng.below(3) });
    let offset: [usize; 3] = std::array::from_fn(|_| if draw.once_in(2) { 0 } else { draw.rng.below(3) });
    let stride: [usize; 3] = std::array::from_fn(|_| draw.some(4));
    let size: [usize; 3] = std::array::from_fn(|axis| {
        let least = (kernel[axis] + offset[axis]).saturating_sub(2 * padding[axis]).max(1);
        least + draw.rng.below(8)
    });
    let out_channels = draw.dim().div_ceil(groups) * groups;
    let normalise = draw.once_in(2);
    let integers = draw.values == Values::Integers;
    let constants = |draw: &mut Draw<'_>, low: f32| -> Vec<f32> {
        let n = if normalise { channels } else { 0 };
        (0..n).map(|_| if integers { draw.rng.below(3) as f32 - 1.0 } else { low * (0.5 + draw.rng.uniform()) }).collect()
    };
    let bytes = draw.once_in(2);
    let (scale, shift) = (constants(draw, if bytes { 0.01 } else { 1.0 }), constants(draw, -1.0));
    let op = Conv3d { stride, offset, padding, groups, scale, shift };
    let batch = draw.some(3);
    let video = [batch, size[0], size[1], size[2], channels];
    let input = if bytes {
        let (values, n) = (draw.values, video.iter().product::<usize>());
        // Sums of bytes times small integers stay exact below 2²⁴; of bytes times normal numbers they are scaled down.
        let most = if values == Values::Integers { 16 } else { 256 };
        let data = (0..n).map(|_| draw.rng.below(most) as f32).collect();
        Operand::arranged(&mut draw.rng, DType::U8, &video, data)
    } else {
        draw.operand(&video)
    };
    let tubes: [usize; 3] = std::array::from_fn(|axis| op.tubes(axis, size[axis], kernel[axis]).unwrap_or(0));
    let weight = [out_channels, kernel[0], kernel[1], kernel[2], channels / groups];
    let inputs = vec![
        Some(input),
        Some(draw.operand(&weight)),
        draw.maybe(&[out_channels]),
        draw.maybe(&[tubes[0], tubes[1], tubes[2], out_channels]),
    ];
    // As for gemm, K products, each of a voxel that was rounded once by the normalisation: in f32, or to bf16 for products of bf16.
    let k = weight[1..].iter().product::<usize>() as f64;
    let gain = if op.scale.is_empty() { 1.0 } else { largest_of(&op.scale) };
    let product = (largest(&inputs[..1]) * gain + largest_of(&op.shift)) * largest(&inputs[1..2]);
    let tolerance = draw.unless_integers(4.0 * k.sqrt() + 32.0 + normalisation(draw.dtype, &op), product * (k.sqrt() + 1.0));
    let prepare = draw.once_in(2);
    Sample { op: op.into(), inputs, tolerance: vec![tolerance], prepare }
}

/// The rounding of a normalised voxel to the element type of the product, in those of f32. Signs are independent, so that K of them add up as √K do.
pub(super) fn normalisation(dtype: DType, op: &Conv3d) -> f64 {
    let rounded = dtype == DType::BF16 && !op.scale.is_empty();
    if rounded { dtype.unit_roundoff() / DType::F32.unit_roundoff() } else { 0.0 }
}

pub(super) fn largest_of(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |m, &x| m.max(f64::from(x.abs())))
}
