//! The position encoding and the local block of UniFormerV2.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, ops::conv3d_depthwise::Conv3dDepthwise};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [([3, 3, 3], [1, 1, 1]), ([3, 1, 1], [1, 0, 0])]
        .map(|(kernel, padding): ([usize; 3], [usize; 3])| {
            let inputs = [normal(d, &[1, 8, 14, 14, 768]), normal(d, &[kernel[0], kernel[1], kernel[2], 768]), normal(d, &[768])];
            Case::new(&format!("{kernel:?}"), Conv3dDepthwise { padding }, inputs)
        })
        .into()
}

fn main() {
    group("conv3d_depthwise", cases);
}
