//! A batch of Kinetics.

use criterion::{Criterion, criterion_group, criterion_main};
use tubelet_benches::{Case, group, normal};
use tubelet_engine::{
    Device,
    ops::cross_entropy::{CrossEntropy, LossReduction},
};

fn cases(d: &Device) -> Vec<Case> {
    let op = CrossEntropy { label_smoothing: 0.1, reduction: LossReduction::Mean };
    vec![Case::new("64x400", op, [normal(d, &[64, 400]), normal(d, &[64, 400])])]
}

fn bench(criterion: &mut Criterion) {
    group(criterion, "cross_entropy", cases);
}

criterion_group!(benches, bench);
criterion_main!(benches);
