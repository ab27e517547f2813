//! Where a video's gradient is wanted: tubelets of ViViT.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::{conv3d::Conv3d, conv3d_backward_video::Conv3dBackwardVideo},
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = Conv3dBackwardVideo { conv: Conv3d::new([2, 16, 16]), size: [32, 224, 224] };
    vec![Case::new("[2, 16, 16]", op, [normal(d, &[1, 16, 14, 14, 768]), normal(d, &[768, 2, 16, 16, 3])])]
}

fn main() {
    group("conv3d_backward_video", cases);
}
