//! The convolutions of the forward operation, with a gradient of its result.

use super::{Draw, Sample, conv3d_depthwise, largest};
use crate::{Op, ops::conv3d_depthwise_backward::Conv3dDepthwiseBackward};

pub(super) fn sample(draw: &mut Draw<'_>) -> Sample {
    let forward = conv3d_depthwise::sample(draw);
    // Some devices multiply by gradients of 0 beside the result, some leave them out.
    draw.nan = 0;
    let (Op::Conv3dDepthwise(op), [Some(x), Some(weight), ..]) = (&forward.op, &forward.inputs[..]) else { return forward };
    let (s, w) = (x.shape(), weight.shape());
    let mut out = s.to_vec();
    (0..3).for_each(|axis| out[1 + axis] = s[1 + axis] + 2 * op.padding[axis] + 1 - w[axis]);
    let gradient = draw.operand(&out);
    let inputs = vec![Some(x.clone()), Some(weight.clone()), Some(gradient)];
    let sum = |draw: &Draw<'_>, terms: usize, product: f64| {
        let root = (terms as f64).sqrt();
        draw.unless_integers(2.0 * root + 4.0, product * (root + 2.0))
    };
    let g = largest(&inputs[2..]);
    let dx = sum(draw, w[..3].iter().product(), g * largest(&inputs[1..2]));
    let dweight = sum(draw, out[..4].iter().product(), g * largest(&inputs[..1]));
    Sample { op: Conv3dDepthwiseBackward { padding: op.padding }.into(), inputs, tolerance: vec![dx, dweight], prepare: false }
}
