//! The tubes of TubeViT and the tubelets of ViViT, from bytes.

use tubelet_benches::{Case, bytes, group, weight};
use tubelet_engine::{Device, Operand, ops::conv3d::Conv3d};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    [
        ([8, 8, 8], [16, 32, 32]),
        ([16, 4, 4], [6, 32, 32]),
        ([4, 12, 12], [16, 32, 32]),
        ([1, 16, 16], [1, 16, 16]),
        ([2, 16, 16], [2, 16, 16]),
    ]
    .map(|(kernel, stride): ([usize; 3], [usize; 3])| {
        let shape = [768, kernel[0], kernel[1], kernel[2], 3];
        let op = Conv3d { scale: vec![0.01; 3], shift: vec![-1.0; 3], ..Conv3d::new(stride) };
        let inputs = [bytes(d, &[1, 32, 224, 224, 3]), weight(d, &shape, Operand::Conv3dWeight)];
        Case::new(&format!("{kernel:?} by {stride:?}"), op, inputs)
    })
    .into()
}

fn main() {
    group("conv3d", cases);
}
