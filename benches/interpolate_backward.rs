//! TubeViT's one kernel, from another shape.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::interpolate_backward::InterpolateBackward};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = InterpolateBackward { size: [8, 8, 8], align_corners: false };
    vec![Case::new("16x4x4 to 8x8x8", op, [normal(d, &[768, 16, 4, 4, 3])])]
}

fn main() {
    group("interpolate_backward", cases);
}
