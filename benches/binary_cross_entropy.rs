//! A batch of Charades.

use criterion::{Criterion, criterion_group, criterion_main};
use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::{binary_cross_entropy::BinaryCrossEntropy, cross_entropy::LossReduction},
};

fn cases(d: &Device) -> Vec<Case> {
    let op = BinaryCrossEntropy { reduction: LossReduction::Mean };
    vec![Case::new("64x157", op, [normal(d, &[64, 157]), normal(d, &[64, 157])])]
}

fn bench(criterion: &mut Criterion) {
    group(criterion, "binary_cross_entropy", cases);
}

criterion_group!(benches, bench);
criterion_main!(benches);
