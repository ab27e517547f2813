//! Every product of the depthwise convolution, gone back through to the operand and to the weight.

use super::{
    Array,
    conv3d::each_tap,
    conv3d_depthwise::{add_product, stepless},
    operand,
};
use crate::{Result, ops::conv3d_depthwise_backward::Conv3dDepthwiseBackward};

pub fn run(op: &Conv3dDepthwiseBackward, inputs: &[Option<Array>]) -> Result<Vec<Array>> {
    let (x, weight, gradient) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    let [mut dx, mut dweight] = [x, weight].map(|x| Array { shape: x.shape, data: vec![0.0; x.data.len()] });
    let kernel = [&[1], &weight.shape[..]].concat();
    each_tap(&stepless(op.padding), &x.shape, &kernel, &gradient.shape, |from, tap, to| {
        add_product(dx.row_mut(from), gradient.row(to), weight.row(tap));
        add_product(dweight.row_mut(tap), gradient.row(to), x.row(from));
    });
    Ok(vec![dx, dweight])
}
