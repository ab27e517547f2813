use tubelet_engine::{
    Device,
    ops::conv3d_backward_video::{Conv3dBackwardVideo, conv3d_backward_video},
};
use tubelet_tests::{equals_the_reference, integers};

use crate::conv3d::{Case, tubes_of_models};

crate::properties!("conv3d_backward_video");

#[test]
fn tubes_of_models_are_exact() {
    // Many channels for few tubes, and many tubes.
    let deep = Case::new([1, 2, 4, 6, 2], [1, 2, 2], [1, 2, 2], 2048);
    let large = Case::new([2, 1, 47, 39, 8], [1, 16, 8], [1, 1, 1], 8);
    for case in tubes_of_models().into_iter().chain([deep, large]) {
        for dtype in DType::FLOATS {
            let what = format!("{:?}, {dtype} weight {:?}, gradient {:?}", case.op, case.weight(), case.result());
            let run = |device: &Device| {
                let (gradient, weight) =
                    (integers(device, dtype, &case.result(), 1)?, integers(device, dtype, &case.weight(), 2)?);
                let [_, t, h, w, _] = case.video;
                let op = Conv3dBackwardVideo { conv: case.op.clone(), size: [t, h, w] };
                Ok(vec![conv3d_backward_video(op, &gradient, &weight)?])
            };
            equals_the_reference(&what, run).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
