use tubelet_engine::{
    Device,
    ops::{
        conv3d_depthwise::{Conv3dDepthwise, conv3d_depthwise},
        conv3d_depthwise_backward::{Conv3dDepthwiseBackward, conv3d_depthwise_backward},
    },
};
use tubelet_tests::{equals_the_reference, integers};

crate::properties!("conv3d_depthwise");

/// The kernels of UniFormerV2 with channels in whole packs, rows of any length, and a sum over thousands of rows; forward and back.
#[test]
fn kernels_of_models_are_exact() {
    let cases = [
        ([2, 3, 7, 9, 32], [3, 3, 3], [1, 1, 1]),
        ([1, 8, 3, 5, 64], [3, 1, 1], [1, 0, 0]),
        ([4, 16, 70, 3, 8], [3, 3, 3], [1, 1, 1]),
    ];
    for (x, kernel, padding) in cases {
        for dtype in DType::FLOATS {
            let run = |device: &Device| {
                let [kt, kh, kw] = kernel;
                let (x, weight) = (integers(device, dtype, &x, 1)?, integers(device, dtype, &[kt, kh, kw, x[4]], 2)?);
                let (bias, residual) = (integers(device, dtype, &[x.shape()[4]], 3)?, integers(device, dtype, x.shape(), 4)?);
                let y = conv3d_depthwise(Conv3dDepthwise { padding }, &x, &weight, Some(&bias), Some(&residual))?;
                let [dx, dweight] = conv3d_depthwise_backward(Conv3dDepthwiseBackward { padding }, &x, &weight, &residual)?;
                Ok(vec![y, dx, dweight])
            };
            equals_the_reference(&format!("{x:?}, {kernel:?}, {dtype}"), run).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
