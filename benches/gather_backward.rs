//! The residual of a pooling layer.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{Device, Tensor, ops::gather_backward::GatherBackward};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let indices: Vec<i32> = (0..6 * 196 * 12).map(|i| i % 8).collect();
    let indices = Tensor::from_slice(d, &[1, 6, 196, 12], &indices).unwrap_or_else(|error| panic!("{error}"));
    let op = GatherBackward { axis: 1, size: 8 };
    vec![Case::new("6 of 8 frames", op, [normal(d, &[1, 6, 196, 12, 64]), indices])]
}

fn main() {
    group("gather_backward", cases);
}
