use tubelet_engine::{
    Device,
    ops::conv3d_backward_weight::{Conv3dBackwardWeight, conv3d_backward_weight},
};
use tubelet_tests::{equals_the_reference, integers};

use crate::conv3d::{Case, tubes_of_models};

crate::properties!("conv3d_backward_weight");

#[test]
fn tubes_of_models_are_exact() {
    // A sum over many positions, and a large weight.
    let long = Case::new([1, 4, 60, 60, 3], [1, 4, 4], [1, 2, 2], 24).normalised();
    let large = Case::new([1, 2, 8, 32, 8], [1, 8, 16], [1, 8, 16], 2048);
    for case in tubes_of_models().into_iter().chain([long, large]) {
        for dtype in DType::FLOATS {
            for video in [DType::U8, dtype] {
                let what = format!("{:?}, {video} video {:?}, {dtype} gradient {:?}", case.op, case.video, case.result());
                let run = |device: &Device| {
                    let (video, gradient) =
                        (integers(device, video, &case.video, 1)?, integers(device, dtype, &case.result(), 2)?);
                    let op = Conv3dBackwardWeight { conv: case.op.clone(), kernel: case.kernel };
                    Ok(vec![conv3d_backward_weight(op, &video, &gradient)?])
                };
                equals_the_reference(&what, run).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}
