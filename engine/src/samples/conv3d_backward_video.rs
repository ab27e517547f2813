//! The convolutions of the forward operation, with a gradient of its result.

use super::{Draw, Sample, conv3d, largest};
use crate::{Op, ops::conv3d_backward_video::Conv3dBackwardVideo};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    let forward = conv3d::sample(draw);
    let (Op::Conv3d(conv), [Some(video), Some(weight), ..]) = (&forward.op, &forward.inputs[..]) else { return forward };
    let (v, w) = (video.shape(), weight.shape());
    let mut out = [v[0], 0, 0, 0, w[0]];
    (0..3).for_each(|axis| out[1 + axis] = conv.tubes(axis, v[1 + axis], w[1 + axis]).unwrap_or(0));
    let op = Conv3dBackwardVideo { conv: conv.clone(), size: [v[1], v[2], v[3]] };
    let inputs = vec![Some(draw.operand(&out)), Some(weight.clone())];
    // At each voxel up to one product for each channel and element of the kernel.
    let terms = w[..4].iter().product::<usize>() as f64;
    let gain = if op.conv.scale.is_empty() { 1.0 } else { conv3d::largest_of(&op.conv.scale) };
    let product = gain * largest(&inputs[..1]) * largest(&inputs[1..]);
    let tolerance = draw.unless_integers(4.0 * terms.sqrt() + 32.0, product * (terms.sqrt() + 1.0));
    Sample { op: op.into(), inputs, tolerance: vec![tolerance], prepare: false }
}
