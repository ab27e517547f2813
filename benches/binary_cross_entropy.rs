//! A batch of Charades.

use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::{binary_cross_entropy::BinaryCrossEntropy, cross_entropy::LossReduction},
};

/// The operation at the shapes that models give it.
pub fn cases(d: &Device) -> Vec<Case> {
    let op = BinaryCrossEntropy { reduction: LossReduction::Mean };
    vec![Case::new("64x157", op, [normal(d, &[64, 157]), normal(d, &[64, 157])])]
}

fn main() {
    group("binary_cross_entropy", cases);
}
