//! The videos and convolutions of the forward operation, with a gradient of its result.

use super::{Draw, Sample, Tolerance, conv3d, largest};
use crate::{DType, Op, ops::conv3d_backward_weight::Conv3dBackwardWeight};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    let forward = conv3d::sample(draw);
    let (Op::Conv3d(conv), [Some(video), Some(weight), ..]) = (&forward.op, &forward.inputs[..]) else { return forward };
    let (v, w) = (video.shape(), weight.shape());
    let kernel = [w[1], w[2], w[3]];
    let mut out = [v[0], 0, 0, 0, w[0]];
    (0..3).for_each(|axis| out[1 + axis] = conv.tubes(axis, v[1 + axis], kernel[axis]).unwrap_or(0));
    let gain = if conv.scale.is_empty() { 1.0 } else { conv3d::largest_of(&conv.scale) };
    let op = Conv3dBackwardWeight { conv: conv.clone(), kernel };
    let gradient = draw.operand(&out);
    let inputs = vec![Some(video.clone()), Some(gradient)];
    // As for gemm: a sum over positions of products with a voxel that was rounded once.
    let positions = out[..4].iter().product::<usize>() as f64;
    let product = (largest(&inputs[..1]) * gain + conv3d::largest_of(&op.conv.shift)) * largest(&inputs[1..]);
    let exact = positions * product < f64::from(1 << 24) && draw.dtype == DType::F32;
    let factor = 4.0 * positions.sqrt() + 32.0 + conv3d::normalisation(draw.dtype, &op.conv);
    let rounded = Tolerance::Roundings { factor, scale: product * (positions.sqrt() + 1.0) };
    let tolerance = if exact { draw.unless_integers(factor, product * (positions.sqrt() + 1.0)) } else { rounded };
    Sample { op: op.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
