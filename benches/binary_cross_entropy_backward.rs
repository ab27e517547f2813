//! A batch of Charades.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::{
        binary_cross_entropy::BinaryCrossEntropy, binary_cross_entropy_backward::BinaryCrossEntropyBackward,
        cross_entropy::LossReduction,
    },
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = BinaryCrossEntropyBackward { loss: BinaryCrossEntropy { reduction: LossReduction::Mean } };
    let inputs = vec![Some(normal(d, &[64, 157])), Some(normal(d, &[64, 157])), None, Some(normal(d, &[]))];
    vec![Case { label: "64x157".into(), op: op.into(), inputs }]
}

fn main() {
    group("binary_cross_entropy_backward", cases);
}
