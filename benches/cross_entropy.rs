//! A batch of Kinetics.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::cross_entropy::{CrossEntropy, LossReduction},
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = CrossEntropy { label_smoothing: 0.1, reduction: LossReduction::Mean };
    vec![Case::new("64x400", op, [normal(d, &[64, 400]), normal(d, &[64, 400])])]
}

fn main() {
    group("cross_entropy", cases);
}
