//! TubeViT's one kernel in another shape.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::interpolate::Interpolate};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = Interpolate { size: [16, 4, 4], align_corners: false };
    vec![Case::new("8x8x8 to 16x4x4", op, [normal(d, &[768, 8, 8, 8, 3])])]
}

fn main() {
    group("interpolate", cases);
}
