//! The tubes of TubeViT and the tubelets of ViViT, from bytes.

use tubelet_benches::{Case, bytes, group, normal};
use tubelet_engine::{
    Device,
    ops::{conv3d::Conv3d, conv3d_backward_weight::Conv3dBackwardWeight},
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [([8, 8, 8], [16, 32, 32]), ([1, 16, 16], [1, 16, 16]), ([2, 16, 16], [2, 16, 16])]
        .map(|(kernel, stride): ([usize; 3], [usize; 3])| {
            let conv = Conv3d { scale: vec![0.01; 3], shift: vec![-1.0; 3], ..Conv3d::new(stride) };
            let tubes = |axis: usize, size: usize| conv.tubes(axis, size, kernel[axis]).unwrap_or(0);
            let gradient = normal(d, &[1, tubes(0, 32), tubes(1, 224), tubes(2, 224), 768]);
            let op = Conv3dBackwardWeight { conv, kernel };
            Case::new(&format!("{kernel:?} by {stride:?}"), op, [bytes(d, &[1, 32, 224, 224, 3]), gradient])
        })
        .into()
}

fn main() {
    group("conv3d_backward_weight", cases);
}
