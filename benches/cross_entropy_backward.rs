//! A batch of Kinetics.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::{
        cross_entropy::{CrossEntropy, LossReduction},
        cross_entropy_backward::CrossEntropyBackward,
    },
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let loss = CrossEntropy { label_smoothing: 0.1, reduction: LossReduction::Mean };
    vec![Case::new("64x400", CrossEntropyBackward { loss }, [normal(d, &[64, 400]), normal(d, &[64, 400]), normal(d, &[])])]
}

fn main() {
    group("cross_entropy_backward", cases);
}
